//! Sessions in a real Redis: the suite that every backend passes, and what Redis alone can do wrong.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt, stream, stream::BoxStream};
use mongodb::Database;
use proto::{Timestamp, Username};
use remote::redis::{AsyncCommands, Client, aio::MultiplexedConnection, cmd};
use sessions::{
    Closing, Error, MongoRevocations, PER_USER, RedisSessions, Revocations, SessionId, Sessions,
    SharedSessions, Token, conformance,
};
use testkit::{Mongo, Redis};
use tokio::{sync::broadcast::Receiver, time::timeout};

/// How long what has to happen may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

fn alice() -> Username {
    "alice".parse().expect("a good name")
}

/// A list of closed sessions that outlives Redis, and that can be made to fail.
#[derive(Default)]
struct List {
    closed: Mutex<Vec<SessionId>>,
    generation: AtomicU64,
    is_away: AtomicBool,
}

impl List {
    fn answers(&self) -> Result<(), Error> {
        let away = self.is_away.load(Relaxed).then(|| Error::Unavailable("away".into()));
        away.map_or(Ok(()), Err)
    }
}

#[async_trait]
impl Revocations for List {
    async fn add(&self, sessions: &[SessionId]) -> Result<(), Error> {
        self.answers()?;
        self.closed.lock().expect("nobody panicked").extend_from_slice(sessions);
        Ok(())
    }

    async fn generation(&self, seen: u64) -> Result<u64, Error> {
        self.answers()?;
        self.generation.fetch_max(seen, Relaxed);
        Ok(self.generation.fetch_add(1, Relaxed) + 1)
    }

    async fn parts(&self) -> Result<BoxStream<'_, Result<Vec<SessionId>, Error>>, Error> {
        self.answers()?;
        let all = self.closed.lock().expect("nobody panicked").clone();
        Ok(stream::iter([Ok(all)]).boxed())
    }
}

fn finding(redis: &Redis) -> RedisSessions {
    RedisSessions::new(&redis.url(), Timestamp::now).expect("an address")
}

fn keeping(redis: &Redis, closed: Arc<dyn Revocations>) -> RedisSessions {
    RedisSessions::keeping(&redis.url(), Timestamp::now, closed).expect("an address")
}

/// Sessions in `redis` that are kept and hear closings.
async fn listening(redis: &Redis) -> RedisSessions {
    let sessions = keeping(redis, Arc::new(List::default()));
    until_ready(&sessions).await;
    sessions
}

async fn until_ready(sessions: &RedisSessions) {
    let ready = async {
        while sessions.not_ready_reason().await.is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, ready).await.expect("Redis is there");
}

async fn hears(closings: &mut Receiver<Closing>) -> SessionId {
    timeout(PATIENCE, closings.recv()).await.expect("a closing is heard").expect("none was missed").id
}

#[tokio::test]
async fn conforms() {
    let kept = Mutex::new(Vec::new());
    let make = |clock: sessions::Clock| {
        let redis = Redis::start();
        let list = Arc::new(List::default());
        let sessions = RedisSessions::keeping(&redis.url(), move || clock(), list).unwrap();
        kept.lock().unwrap().push(redis);
        async move {
            until_ready(&sessions).await;
            Arc::new(sessions) as SharedSessions
        }
    };
    conformance::run(make).await.unwrap();
}

#[tokio::test]
async fn a_closing_is_heard_by_every_process() {
    let redis = Redis::start();
    let (here, there) = (listening(&redis).await, listening(&redis).await);
    let mut closings = there.closings();
    let token = here.open(&alice()).await.unwrap();
    assert!(there.is_live(&token.id()).await.unwrap());
    assert!(here.close(&token).await.unwrap());
    assert_eq!(hears(&mut closings).await, token.id());
    assert_eq!(there.find(&token).await.unwrap(), None);
}

#[tokio::test]
async fn a_closed_session_stays_closed_and_an_open_one_open_when_redis_crashes() {
    let mut redis = Redis::start();
    let sessions = listening(&redis).await;
    let (closed, open) = (sessions.open(&alice()).await.unwrap(), sessions.open(&alice()).await.unwrap());
    assert!(sessions.close(&closed).await.unwrap());
    redis.kill();
    assert!(sessions.find(&open).await.is_err(), "no answer is no permission");
    assert!(sessions.open(&alice()).await.is_err());
    redis.restart();
    until_ready(&sessions).await;
    assert_eq!(sessions.find(&closed).await.unwrap(), None);
    assert!(sessions.find(&open).await.unwrap().is_some());
}

/// Redis has a snapshot only, from before the closings.
#[tokio::test]
async fn a_closed_session_stays_closed_when_redis_comes_back_older_than_the_closing() {
    let (mut redis, mongo) = (Redis::start_volatile(), Mongo::start().await);
    let list = Arc::new(MongoRevocations::new(&database(&mongo).await));
    let sessions = keeping(&redis, list.clone());
    until_ready(&sessions).await;
    let (closed, open) = (sessions.open(&alice()).await.unwrap(), sessions.open(&alice()).await.unwrap());
    let eve: Username = "eve".parse().unwrap();
    let oldest = sessions.open(&eve).await.unwrap();
    cmd("SAVE").query_async::<()>(&mut raw(&redis).await).await.unwrap();
    assert!(sessions.close(&closed).await.unwrap());
    for _ in 0..PER_USER {
        sessions.open(&eve).await.unwrap();
    }
    redis.kill();
    redis.restart();
    let value: Option<String> = raw(&redis).await.get(format!("session:{}", open.id())).await.unwrap();
    assert!(value.is_some(), "the snapshot is there");
    until_ready(&sessions).await;
    assert_eq!(sessions.find(&closed).await.unwrap(), None);
    assert_eq!(sessions.find(&oldest).await.unwrap(), None, "the oldest of too many");
    assert!(sessions.find(&open).await.unwrap().is_some());
    let listed = list.parts().await.unwrap().try_concat().await.unwrap();
    assert_eq!((listed.len(), listed.contains(&closed.id())), (2, true), "{listed:?}");
}

/// A master is put back, unharmed, after another has been in its place: its mark speaks of it, and its sessions are of the past.
#[tokio::test]
async fn a_closed_session_stays_closed_when_redis_is_one_of_the_past_again() {
    let redis = Redis::start();
    let list = Arc::new(List::default());
    let (writer, finder) = (keeping(&redis, list.clone()), finding(&redis));
    until_ready(&writer).await;
    let (closed, open) = (writer.open(&alice()).await.unwrap(), writer.open(&alice()).await.unwrap());
    assert!(finder.find(&closed).await.unwrap().is_some());
    let mut raw = raw(&redis).await;
    let keys = ["sessions:run".to_owned(), format!("session:{}", closed.id())];
    let past: Vec<String> = raw.mget(&keys).await.unwrap();
    // Another Redis is told, everybody sees that, and the session is closed.
    let later = past[0].replacen('1', "2", 1);
    raw.set::<_, _, ()>(&keys[0], &later).await.unwrap();
    list.generation.store(2, Relaxed);
    for everybody in [&writer, &finder] {
        assert!(everybody.find(&open).await.unwrap().is_some());
    }
    assert!(writer.close(&closed).await.unwrap());
    for (key, value) in keys.iter().zip(&past) {
        raw.set::<_, _, ()>(key, value).await.unwrap();
    }
    let told = async {
        while let Err(_) | Ok(Some(_)) =
            finder.find(&closed).await.inspect(|found| assert_eq!(*found, None, "it is back"))
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, told).await.expect("Redis is told again");
    assert!(finder.find(&open).await.unwrap().is_some());
    let now: String = raw.get(&keys[0]).await.unwrap();
    assert!(now.starts_with("3 "), "{now}");
}

/// A master is made a replica of one that was behind, and a master again: the same process with other data.
#[tokio::test]
async fn a_closed_session_is_closed_again_when_redis_takes_over_older_data() {
    let (redis, replica) = (Redis::start(), Redis::start());
    let sessions = listening(&redis).await;
    let token = sessions.open(&alice()).await.unwrap();
    let (mut here, mut there) = (raw(&redis).await, raw(&replica).await);
    follows(&mut there, Some(&redis)).await;
    holds(&mut there, &token).await;
    follows(&mut there, None).await;
    assert!(sessions.close(&token).await.unwrap());
    follows(&mut here, Some(&replica)).await;
    holds(&mut here, &token).await;
    assert!(sessions.find(&token).await.is_err(), "the data of another");
    follows(&mut here, None).await;
    let closed = async {
        while let Err(_) | Ok(Some(_)) =
            sessions.find(&token).await.inspect(|found| assert_eq!(*found, None, "it is back"))
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, closed).await.expect("accounts finds out");
}

async fn follows(redis: &mut MultiplexedConnection, master: Option<&Redis>) {
    let address = master.map(|master| master.admin_url().replace("redis://", "").replace("/0", ""));
    let (host, port) = address.as_deref().and_then(|at| at.split_once(':')).unwrap_or(("NO", "ONE"));
    cmd("REPLICAOF").arg(host).arg(port).query_async::<()>(redis).await.expect("it obeys");
}

/// Waits until a session is there.
async fn holds(redis: &mut MultiplexedConnection, token: &Token) {
    let key = format!("session:{}", token.id());
    let held = async {
        while redis.get::<_, Option<String>>(&key).await.ok().flatten().is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, held).await.expect("it is copied");
}

async fn raw(redis: &Redis) -> MultiplexedConnection {
    let client = Client::open(redis.admin_url()).expect("an address");
    client.get_multiplexed_async_connection().await.expect("it is there")
}

async fn database(mongo: &Mongo) -> Database {
    mongodb::Client::with_uri_str(mongo.uri()).await.expect("an address").database("godzilla")
}

#[tokio::test]
async fn nobody_uses_a_redis_that_was_not_told_what_is_closed() {
    let mut redis = Redis::start();
    let list = Arc::new(List::default());
    list.is_away.store(true, Relaxed);
    // Who only finds finds nothing where nobody ever kept anything.
    until_ready(&finding(&redis)).await;
    assert!(keeping(&redis, list.clone()).open(&alice()).await.is_err(), "not before Redis is marked");
    list.is_away.store(false, Relaxed);
    until_ready(&keeping(&redis, list.clone())).await;
    list.is_away.store(true, Relaxed);
    redis.kill();
    redis.restart();
    let (writer, reader) = (keeping(&redis, list.clone()), finding(&redis));
    let listening = async {
        while !writer.is_listening() || !reader.is_listening() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, listening).await.expect("Redis is there");
    for sessions in [&writer, &reader] {
        let not_ready_reason = sessions.not_ready_reason().await.expect("not ready");
        assert!(not_ready_reason.contains("has not yet been told"), "{not_ready_reason}");
        assert!(sessions.find(&Token::generate().unwrap()).await.is_err());
    }
    list.is_away.store(false, Relaxed);
    until_ready(&writer).await;
    until_ready(&reader).await;
}

#[tokio::test]
async fn a_closing_that_is_not_kept_is_no_success_but_closes() {
    let redis = Redis::start();
    let list = Arc::new(List::default());
    let sessions = keeping(&redis, list.clone());
    until_ready(&sessions).await;
    let token = sessions.open(&alice()).await.unwrap();
    let mut closings = sessions.closings();
    list.is_away.store(true, Relaxed);
    assert!(sessions.close(&token).await.is_err());
    assert_eq!(sessions.find(&token).await.unwrap(), None);
    assert_eq!(hears(&mut closings).await, token.id());
    assert!(sessions.close(&token).await.is_err(), "asked again, it is still not kept");
    list.is_away.store(false, Relaxed);
    // By itself, or because it is asked for again.
    let kept = async {
        while list.closed.lock().unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, kept).await.expect("it is tried again");
    assert!(!sessions.close(&token).await.unwrap(), "there is no session any more");
    assert!(list.closed.lock().unwrap().iter().all(|closed| *closed == token.id()));
    let before = list.closed.lock().unwrap().len();
    sessions.close(&token).await.unwrap();
    assert_eq!(list.closed.lock().unwrap().len(), before, "what nobody has is not kept");
}

/// Processes of earlier releases read a session's id and nothing else.
#[tokio::test]
async fn a_replaced_session_is_published_for_earlier_releases_and_reported_once() {
    let redis = Redis::start();
    let (here, there) = (listening(&redis).await, listening(&redis).await);
    let mut closings = there.closings();
    let old = here.open(&alice()).await.unwrap();
    let client = Client::open(redis.admin_url()).expect("an address");
    let mut channel = client.get_async_pubsub().await.expect("it is there");
    channel.subscribe("session:closed").await.expect("it is there");
    let new = here.replace(&alice(), std::slice::from_ref(&old)).await.unwrap();
    here.supersede(&new.id()).await.unwrap();
    let published = channel.into_on_message().take(2).map(|message| message.get_payload().expect("text"));
    let published: Vec<String> = timeout(PATIENCE, published.collect()).await.expect("both are published");
    assert_eq!(published, [format!("replaced:{}", old.id()), old.id().to_string()]);
    assert!(there.find(&new).await.unwrap().is_some(), "used");
    here.close(&new).await.unwrap();
    let mut next = async || timeout(PATIENCE, closings.recv()).await.expect("it is published").unwrap();
    for _ in ["superseded", "closed"] {
        assert_eq!(next().await, Closing::replaced(old.id()));
    }
    assert_eq!(next().await, Closing::ended(new.id()));
}

#[tokio::test]
async fn a_login_whose_closing_is_not_kept_is_no_success_and_leaves_no_session() {
    let redis = Redis::start();
    let list = Arc::new(List::default());
    let sessions = keeping(&redis, list.clone());
    until_ready(&sessions).await;
    let old = sessions.open(&alice()).await.unwrap();
    list.is_away.store(true, Relaxed);
    assert!(sessions.replace(&alice(), std::slice::from_ref(&old)).await.is_err());
    let mut redis = raw(&redis).await;
    let keys: Vec<String> = redis.keys("session:*").await.expect("it is there");
    let kept: Vec<String> = redis.mget(&keys).await.expect("it is there");
    let (closed, open): (Vec<_>, Vec<_>) = kept.iter().partition(|value| *value == "closed");
    assert_eq!((closed.len(), open.len()), (1, 1), "no session whose token was never sent: {kept:?}");
    assert!(sessions.find(&old).await.unwrap().is_some(), "a login that failed ends nothing");
    list.is_away.store(false, Relaxed);
    let kept = async {
        while !list.closed.lock().expect("no panic").contains(&old.id()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, kept).await.expect("the closing is kept later");
}

#[tokio::test]
async fn closings_are_heard_again_after_redis_was_away() {
    let mut redis = Redis::start();
    let sessions = listening(&redis).await;
    let token = sessions.open(&alice()).await.unwrap();
    redis.kill();
    let deaf = async {
        while sessions.is_listening() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, deaf).await.expect("the end of the connection is noticed");
    redis.restart();
    until_ready(&sessions).await;
    let mut closings = sessions.closings();
    sessions.close(&token).await.unwrap();
    assert_eq!(hears(&mut closings).await, token.id());
}

#[tokio::test]
async fn a_redis_that_wants_another_password_says_so() {
    let redis = Redis::start();
    let url = redis.url().replace("secret", "wrong");
    let sessions = RedisSessions::new(&url, Timestamp::now).expect("an address");
    let refused = async {
        while !sessions
            .not_ready_reason()
            .await
            .is_some_and(|why| why.starts_with("refuses the user or the password"))
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, refused).await.expect("it says so");
    assert!(sessions.find(&Token::generate().unwrap()).await.is_err());
}

#[tokio::test]
async fn a_redis_that_does_not_answer_lets_nobody_in() {
    let redis = Redis::start();
    let sessions = listening(&redis).await;
    let token = sessions.open(&alice()).await.unwrap();
    redis.pause();
    // Without a deadline of its own each of these would hang for ever.
    for _ in 0..3 {
        assert!(timeout(PATIENCE, sessions.find(&token)).await.expect("there is a deadline").is_err());
    }
    assert!(timeout(PATIENCE, sessions.open(&alice())).await.expect("there is a deadline").is_err());
    assert!(timeout(PATIENCE, sessions.close(&token)).await.expect("there is a deadline").is_err());
    let not_ready_reason = timeout(PATIENCE, sessions.not_ready_reason()).await.expect("there is a deadline");
    assert_eq!(not_ready_reason.as_deref(), Some("does not answer"));
    redis.resume();
    until_ready(&sessions).await;
    let other = sessions.open(&alice()).await.unwrap();
    assert!(sessions.find(&other).await.unwrap().is_some());
}

#[tokio::test]
async fn what_somebody_else_wrote_is_nobodys_session() {
    let redis = Redis::start();
    let sessions = listening(&redis).await;
    let mut raw = raw(&redis).await;
    let values = [
        "",
        "alice",
        "{}",
        r#"{"username":"a b","issued_at":1}"#,
        r#"{"username":"alice","issued_at":"1"}"#,
        r#"{"username":"alice","issued_at":18446744073709551615}"#,
    ];
    for value in values {
        let token = Token::generate().unwrap();
        let key = format!("session:{}", token.id());
        cmd("SET").arg(key).arg(value).query_async::<()>(&mut raw).await.unwrap();
        assert_eq!(sessions.find(&token).await.unwrap(), None, "{value}");
        assert!(!sessions.close(&token).await.unwrap(), "{value}");
    }
    let token = Token::generate().unwrap();
    let key = format!("session:{}", token.id());
    cmd("RPUSH").arg(key).arg("x").query_async::<()>(&mut raw).await.unwrap();
    assert_eq!(sessions.find(&token).await.unwrap(), None, "a key of another type");
}

#[tokio::test]
async fn an_address_that_is_none_is_refused_and_not_repeated() {
    for bad in ["", "s3cret", "http://s3cret", "redis://:s3cret@"] {
        let error = RedisSessions::new(bad, Timestamp::now).err().map(|error| error.to_string());
        assert!(error.is_some_and(|error| !error.contains("s3cret")), "{bad}");
    }
}

#[tokio::test]
async fn it_is_known_whether_a_crash_could_lose_a_session() {
    let (durable, forgetful) = (Redis::start(), Redis::start_volatile());
    assert!(listening(&durable).await.is_durable().await.unwrap());
    assert!(!listening(&forgetful).await.is_durable().await.unwrap());
}
