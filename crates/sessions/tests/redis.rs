//! Sessions in a real Redis: the conformance suite, and crashes, failovers and faults of Redis.

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
    Closing, Closings, Error, MongoRevocations, PER_USER, RedisSessions, Revocations, SessionId, Sessions,
    SharedSessions, Token, conformance,
};
use testkit::{Mongo, Redis};
use tokio::time::timeout;

/// The maximum time of a step on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(20);

fn alice() -> Username {
    "alice".parse().expect("a valid name")
}

/// A list of revoked sessions that survives a restart of Redis, and that can be made unavailable.
#[derive(Default)]
struct List {
    revoked: Mutex<Vec<SessionId>>,
    generation: AtomicU64,
    is_unavailable: AtomicBool,
}

impl List {
    fn check(&self) -> Result<(), Error> {
        let error = self.is_unavailable.load(Relaxed).then(|| Error::Unavailable("unavailable".into()));
        error.map_or(Ok(()), Err)
    }
}

#[async_trait]
impl Revocations for List {
    async fn add(&self, sessions: &[SessionId]) -> Result<(), Error> {
        self.check()?;
        self.revoked.lock().expect("no panic").extend_from_slice(sessions);
        Ok(())
    }

    async fn generation(&self, seen: u64) -> Result<u64, Error> {
        self.check()?;
        self.generation.fetch_max(seen, Relaxed);
        Ok(self.generation.fetch_add(1, Relaxed) + 1)
    }

    async fn parts(&self) -> Result<BoxStream<'_, Result<Vec<SessionId>, Error>>, Error> {
        self.check()?;
        let all = self.revoked.lock().expect("no panic").clone();
        Ok(stream::iter([Ok(all)]).boxed())
    }
}

fn reader_at(redis: &Redis) -> RedisSessions {
    RedisSessions::new(&redis.url(), Timestamp::now).expect("an address")
}

fn writer_at(redis: &Redis, revocations: Arc<dyn Revocations>) -> RedisSessions {
    RedisSessions::with_revocations(&redis.url(), Timestamp::now, revocations).expect("an address")
}

/// Sessions in `redis` that can be opened and closed and receive closings.
async fn ready_sessions(redis: &Redis) -> RedisSessions {
    let sessions = writer_at(redis, Arc::new(List::default()));
    until_ready(&sessions).await;
    sessions
}

async fn until_ready(sessions: &RedisSessions) {
    let ready = async {
        while sessions.not_ready_reason().await.is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(TIMEOUT, ready).await.expect("Redis is ready");
}

async fn next_closing(closings: &mut Closings) -> SessionId {
    timeout(TIMEOUT, closings.recv()).await.expect("a closing is received").expect("no lag").id
}

#[tokio::test]
async fn conforms() {
    let servers = Mutex::new(Vec::new());
    let make = |clock: sessions::Clock| {
        let redis = Redis::start();
        let list = Arc::new(List::default());
        let sessions = RedisSessions::with_revocations(&redis.url(), move || clock(), list).unwrap();
        servers.lock().unwrap().push(redis);
        async move {
            until_ready(&sessions).await;
            Arc::new(sessions) as SharedSessions
        }
    };
    conformance::run(make).await.unwrap();
}

#[tokio::test]
async fn every_process_receives_a_closing() {
    let redis = Redis::start();
    let (here, there) = (ready_sessions(&redis).await, ready_sessions(&redis).await);
    let mut closings = there.closings();
    let token = here.open(&alice()).await.unwrap();
    assert!(there.is_live(&token.id()).await.unwrap());
    assert!(here.close(&token).await.unwrap());
    assert_eq!(next_closing(&mut closings).await, token.id());
    assert_eq!(there.find(&token).await.unwrap(), None);
}

#[tokio::test]
async fn closed_sessions_stay_closed_and_open_ones_open_after_a_crash_of_redis() {
    let mut redis = Redis::start();
    let sessions = ready_sessions(&redis).await;
    let (closed, open) = (sessions.open(&alice()).await.unwrap(), sessions.open(&alice()).await.unwrap());
    assert!(sessions.close(&closed).await.unwrap());
    redis.kill();
    assert!(sessions.find(&open).await.is_err(), "no access without a response of Redis");
    assert!(sessions.open(&alice()).await.is_err());
    redis.restart();
    until_ready(&sessions).await;
    assert_eq!(sessions.find(&closed).await.unwrap(), None);
    assert!(sessions.find(&open).await.unwrap().is_some());
}

/// Redis restarts from a snapshot that is older than the closings.
#[tokio::test]
async fn a_closed_session_stays_closed_when_redis_restarts_from_an_older_snapshot() {
    let (mut redis, mongo) = (Redis::start_volatile(), Mongo::start().await);
    let list = Arc::new(MongoRevocations::new(&database(&mongo).await));
    let sessions = writer_at(&redis, list.clone());
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
    assert!(value.is_some(), "the snapshot is loaded");
    until_ready(&sessions).await;
    assert_eq!(sessions.find(&closed).await.unwrap(), None);
    assert_eq!(sessions.find(&oldest).await.unwrap(), None, "the evicted session");
    assert!(sessions.find(&open).await.unwrap().is_some());
    let listed = list.parts().await.unwrap().try_concat().await.unwrap();
    assert_eq!((listed.len(), listed.contains(&closed.id())), (2, true), "{listed:?}");
}

/// A master returns to service, intact, after another one has replaced it. Its fence record names it, and its sessions are outdated.
#[tokio::test]
async fn a_closed_session_stays_closed_when_an_earlier_master_returns() {
    let redis = Redis::start();
    let list = Arc::new(List::default());
    let (writer, reader) = (writer_at(&redis, list.clone()), reader_at(&redis));
    until_ready(&writer).await;
    let (closed, open) = (writer.open(&alice()).await.unwrap(), writer.open(&alice()).await.unwrap());
    assert!(reader.find(&closed).await.unwrap().is_some());
    let mut raw = raw(&redis).await;
    let keys = ["sessions:run".to_owned(), format!("session:{}", closed.id())];
    let past: Vec<String> = raw.mget(&keys).await.unwrap();
    // A later generation is written, both processes see it, and the session is closed.
    let later = past[0].replacen('1', "2", 1);
    raw.set::<_, _, ()>(&keys[0], &later).await.unwrap();
    list.generation.store(2, Relaxed);
    for sessions in [&writer, &reader] {
        assert!(sessions.find(&open).await.unwrap().is_some());
    }
    assert!(writer.close(&closed).await.unwrap());
    for (key, value) in keys.iter().zip(&past) {
        raw.set::<_, _, ()>(key, value).await.unwrap();
    }
    let revoked = async {
        while let Err(_) | Ok(Some(_)) = reader
            .find(&closed)
            .await
            .inspect(|found| assert_eq!(*found, None, "the closed session stays closed"))
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(TIMEOUT, revoked).await.expect("the list is applied again");
    assert!(reader.find(&open).await.unwrap().is_some());
    let now: String = raw.get(&keys[0]).await.unwrap();
    assert!(now.starts_with("3 "), "{now}");
}

/// A master becomes a replica of an outdated Redis, and then a master again: the same process with older data.
#[tokio::test]
async fn a_closed_session_is_closed_again_when_redis_receives_older_data() {
    let (redis, replica) = (Redis::start(), Redis::start());
    let sessions = ready_sessions(&redis).await;
    let token = sessions.open(&alice()).await.unwrap();
    let (mut here, mut there) = (raw(&redis).await, raw(&replica).await);
    replicate(&mut there, Some(&redis)).await;
    until_copied(&mut there, &token).await;
    replicate(&mut there, None).await;
    assert!(sessions.close(&token).await.unwrap());
    replicate(&mut here, Some(&replica)).await;
    until_copied(&mut here, &token).await;
    assert!(sessions.find(&token).await.is_err(), "the data has another history");
    replicate(&mut here, None).await;
    let closed = async {
        while let Err(_) | Ok(Some(_)) = sessions
            .find(&token)
            .await
            .inspect(|found| assert_eq!(*found, None, "the closed session stays closed"))
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(TIMEOUT, closed).await.expect("the list is applied again");
}

/// Makes a Redis a replica of `master`, or a master when `master` is `None`.
async fn replicate(redis: &mut MultiplexedConnection, master: Option<&Redis>) {
    let address = master.map(|master| master.admin_url().replace("redis://", "").replace("/0", ""));
    let (host, port) = address.as_deref().and_then(|at| at.split_once(':')).unwrap_or(("NO", "ONE"));
    cmd("REPLICAOF").arg(host).arg(port).query_async::<()>(redis).await.expect("a reply");
}

/// Waits until a session is copied.
async fn until_copied(redis: &mut MultiplexedConnection, token: &Token) {
    let key = format!("session:{}", token.id());
    let copied = async {
        while redis.get::<_, Option<String>>(&key).await.ok().flatten().is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(TIMEOUT, copied).await.expect("the session is copied");
}

async fn raw(redis: &Redis) -> MultiplexedConnection {
    let client = Client::open(redis.admin_url()).expect("an address");
    client.get_multiplexed_async_connection().await.expect("a connection")
}

async fn database(mongo: &Mongo) -> Database {
    mongodb::Client::with_uri_str(mongo.uri()).await.expect("an address").database("godzilla")
}

#[tokio::test]
async fn a_redis_is_not_used_before_the_revocation_list_is_applied() {
    let mut redis = Redis::start();
    let list = Arc::new(List::default());
    list.is_unavailable.store(true, Relaxed);
    // A Redis without a fence record contains no sessions, so readers accept it.
    until_ready(&reader_at(&redis)).await;
    let opened = writer_at(&redis, list.clone()).open(&alice()).await;
    assert!(opened.is_err(), "no session is opened before the fence record exists");
    list.is_unavailable.store(false, Relaxed);
    until_ready(&writer_at(&redis, list.clone())).await;
    list.is_unavailable.store(true, Relaxed);
    redis.kill();
    redis.restart();
    let (writer, reader) = (writer_at(&redis, list.clone()), reader_at(&redis));
    let subscribed = async {
        while !writer.is_subscribed() || !reader.is_subscribed() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(TIMEOUT, subscribed).await.expect("Redis accepts subscriptions");
    for sessions in [&writer, &reader] {
        let reason = sessions.not_ready_reason().await.expect("not ready");
        assert!(reason.contains("has not received the list of closed sessions"), "{reason}");
        assert!(sessions.find(&Token::generate().unwrap()).await.is_err());
    }
    list.is_unavailable.store(false, Relaxed);
    until_ready(&writer).await;
    until_ready(&reader).await;
}

#[tokio::test]
async fn a_closing_that_is_not_in_the_list_fails_and_is_retried() {
    let redis = Redis::start();
    let list = Arc::new(List::default());
    let sessions = writer_at(&redis, list.clone());
    until_ready(&sessions).await;
    let token = sessions.open(&alice()).await.unwrap();
    let mut closings = sessions.closings();
    list.is_unavailable.store(true, Relaxed);
    assert!(sessions.close(&token).await.is_err());
    assert_eq!(sessions.find(&token).await.unwrap(), None);
    assert_eq!(next_closing(&mut closings).await, token.id());
    assert!(sessions.close(&token).await.is_err(), "the retry fails too");
    list.is_unavailable.store(false, Relaxed);
    let listed = async {
        while list.revoked.lock().unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(TIMEOUT, listed).await.expect("the write to the list is retried");
    assert!(!sessions.close(&token).await.unwrap(), "the session is closed already");
    assert!(list.revoked.lock().unwrap().iter().all(|revoked| *revoked == token.id()));
    let before = list.revoked.lock().unwrap().len();
    sessions.close(&token).await.unwrap();
    assert_eq!(list.revoked.lock().unwrap().len(), before, "an absent session is not added to the list");
}

/// Processes of earlier releases parse only messages that consist of a session id.
#[tokio::test]
async fn a_replaced_session_is_published_for_earlier_releases_and_reported_once() {
    let redis = Redis::start();
    let (here, there) = (ready_sessions(&redis).await, ready_sessions(&redis).await);
    let mut closings = there.closings();
    let old = here.open(&alice()).await.unwrap();
    let client = Client::open(redis.admin_url()).expect("an address");
    let mut channel = client.get_async_pubsub().await.expect("a connection");
    channel.subscribe("session:closed").await.expect("a reply");
    let new = here.replace(&alice(), std::slice::from_ref(&old)).await.unwrap();
    here.supersede(&new.id()).await.unwrap();
    let texts = channel.into_on_message().map(|message| message.get_payload::<String>().expect("text"));
    // The empty message, by which the script checks its right to publish, has no meaning.
    let published = texts.filter(|text| std::future::ready(!text.is_empty())).take(2);
    let published: Vec<String> = timeout(TIMEOUT, published.collect()).await.expect("two messages");
    assert_eq!(published, [format!("replaced:{}", old.id()), old.id().to_string()]);
    assert!(there.find(&new).await.unwrap().is_some(), "used");
    here.close(&new).await.unwrap();
    let mut next = async || timeout(TIMEOUT, closings.recv()).await.expect("a closing is received").unwrap();
    for _ in ["superseded", "closed"] {
        assert_eq!(next().await, Closing::replaced(old.id()));
    }
    assert_eq!(next().await, Closing::ended(new.id()));
}

#[tokio::test]
async fn a_login_that_cannot_revoke_the_old_session_fails_and_opens_none() {
    let redis = Redis::start();
    let list = Arc::new(List::default());
    let sessions = writer_at(&redis, list.clone());
    until_ready(&sessions).await;
    let old = sessions.open(&alice()).await.unwrap();
    list.is_unavailable.store(true, Relaxed);
    assert!(sessions.replace(&alice(), std::slice::from_ref(&old)).await.is_err());
    let mut redis = raw(&redis).await;
    let keys: Vec<String> = redis.keys("session:*").await.expect("a reply");
    let values: Vec<String> = redis.mget(&keys).await.expect("a reply");
    let (closed, open): (Vec<_>, Vec<_>) = values.iter().partition(|value| *value == "closed");
    assert_eq!((closed.len(), open.len()), (1, 1), "the new session is closed: {values:?}");
    assert!(sessions.find(&old).await.unwrap().is_some(), "the failed login leaves the old session open");
    list.is_unavailable.store(false, Relaxed);
    let listed = async {
        while !list.revoked.lock().expect("no panic").contains(&old.id()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(TIMEOUT, listed).await.expect("the write to the list is retried");
}

#[tokio::test]
async fn closings_are_received_again_after_a_restart_of_redis() {
    let mut redis = Redis::start();
    let sessions = ready_sessions(&redis).await;
    let token = sessions.open(&alice()).await.unwrap();
    redis.kill();
    let lost = async {
        while sessions.is_subscribed() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(TIMEOUT, lost).await.expect("the end of the connection is detected");
    redis.restart();
    until_ready(&sessions).await;
    let mut closings = sessions.closings();
    sessions.close(&token).await.unwrap();
    assert_eq!(next_closing(&mut closings).await, token.id());
}

#[tokio::test]
async fn a_wrong_password_is_reported() {
    let redis = Redis::start();
    let url = redis.url().replace("secret", "wrong");
    let sessions = RedisSessions::new(&url, Timestamp::now).expect("an address");
    let refused = async {
        while !sessions
            .not_ready_reason()
            .await
            .is_some_and(|reason| reason.starts_with("refuses the user or the password"))
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(TIMEOUT, refused).await.expect("the password is reported");
    assert!(sessions.find(&Token::generate().unwrap()).await.is_err());
}

#[tokio::test]
async fn calls_fail_within_a_deadline_while_redis_does_not_respond() {
    let redis = Redis::start();
    let sessions = ready_sessions(&redis).await;
    let token = sessions.open(&alice()).await.unwrap();
    redis.pause();
    // Without a deadline each of these calls would hang.
    for _ in 0..3 {
        assert!(timeout(TIMEOUT, sessions.find(&token)).await.expect("there is a deadline").is_err());
    }
    assert!(timeout(TIMEOUT, sessions.open(&alice())).await.expect("there is a deadline").is_err());
    assert!(timeout(TIMEOUT, sessions.close(&token)).await.expect("there is a deadline").is_err());
    let reason = timeout(TIMEOUT, sessions.not_ready_reason()).await.expect("there is a deadline");
    assert_eq!(reason.as_deref(), Some("does not answer"));
    redis.resume();
    until_ready(&sessions).await;
    let other = sessions.open(&alice()).await.unwrap();
    assert!(sessions.find(&other).await.unwrap().is_some());
}

#[tokio::test]
async fn values_of_other_applications_are_not_sessions() {
    let redis = Redis::start();
    let sessions = ready_sessions(&redis).await;
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
async fn an_invalid_address_is_rejected_and_does_not_appear_in_the_error() {
    for bad in ["", "s3cret", "http://s3cret", "redis://:s3cret@"] {
        let error = RedisSessions::new(bad, Timestamp::now).err().map(|error| error.to_string());
        assert!(error.is_some_and(|error| !error.contains("s3cret")), "{bad}");
    }
}

#[tokio::test]
async fn settings_with_which_a_crash_loses_sessions_are_detected() {
    let (durable, volatile) = (Redis::start(), Redis::start_volatile());
    assert!(ready_sessions(&durable).await.is_durable().await.unwrap());
    assert!(!ready_sessions(&volatile).await.is_durable().await.unwrap());
}

/// Keys that another program has overwritten do not keep users from logging in and out.
#[tokio::test]
async fn keys_of_another_type_count_as_absent() {
    let redis = Redis::start();
    let sessions = ready_sessions(&redis).await;
    let old = sessions.replace(&alice(), &[]).await.unwrap();
    redis.execute("SET sessions-of:alice another-application");
    redis.execute(&format!("SET session-successors:{} another-application", old.id()));
    let new = sessions.replace(&alice(), std::slice::from_ref(&old)).await.unwrap();
    assert!(sessions.find_by_id(&new.id()).await.unwrap().is_some());
    redis.execute(&format!("SET session-successors:{} another-application", new.id()));
    assert!(sessions.close(&new).await.unwrap(), "a logout");
    let lost = sessions.replace(&alice(), &[]).await.unwrap();
    redis.execute(&format!("DEL session:{}", lost.id()));
    redis.execute(&format!("RPUSH session:{} another-application", lost.id()));
    assert!(sessions.find_by_id(&lost.id()).await.unwrap().is_none());
    sessions.close_all(&alice()).await.unwrap();
    redis.execute("SET sessions-of:alice another-application");
    sessions.close_all(&alice()).await.unwrap();
    assert!(
        sessions.find_by_id(&sessions.replace(&alice(), &[]).await.unwrap().id()).await.unwrap().is_some()
    );
}

/// No generation outdates all others for good, whether it is in the record or published.
#[tokio::test]
async fn generations_out_of_range_are_ignored() {
    let redis = Redis::start();
    let list = Arc::new(List::default());
    let (accounts, gateway) = (writer_at(&redis, list.clone()), reader_at(&redis));
    until_ready(&accounts).await;
    until_ready(&gateway).await;
    let token = accounts.replace(&alice(), &[]).await.unwrap();
    let record = redis_value(&redis, "sessions:run").await;
    let incarnation = record.split_once(' ').unwrap().1.to_owned();
    for generation in ["18446744073709551615", "9007199254740993", "99999999999999999999", "-1", "1.5", "x"] {
        redis.execute(&format!("PUBLISH session:closed {generation}"));
        redis.execute(&format!("SET sessions:run \"{generation} {incarnation}\""));
        let until = async {
            while redis_value(&redis, "sessions:run").await.starts_with(generation) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(TIMEOUT, until).await.expect("accounts writes the record again");
        until_ready(&accounts).await;
        until_ready(&gateway).await;
        assert!(gateway.find_by_id(&token.id()).await.unwrap().is_some(), "{generation}");
    }
    // One step, because accounts may write the record between two.
    let overwrite = "redis.call('DEL', KEYS[1]) redis.call('RPUSH', KEYS[1], 'another-application')";
    redis.execute(&format!("EVAL \"{overwrite}\" 1 sessions:run"));
    until_ready(&accounts).await;
    assert!(list.generation.load(Relaxed) < 100);
}

async fn redis_value(redis: &Redis, key: &str) -> String {
    let client = Client::open(redis.admin_url()).expect("an address");
    let mut connection = client.get_multiplexed_async_connection().await.expect("Redis responds");
    connection.get(key).await.expect("Redis responds")
}
