//! Sessions in a Redis that fails partially or that several deployments share, and a generation counter that was restored.

#[path = "revocation_list/mod.rs"]
mod revocation_list;

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use proto::{Timestamp, Username};
use remote::{Deployment, Location};
use sessions::{Closing, Closings, Error, PER_USER, RecvError, RedisSessions, Sessions, Token};
use testkit::{Redis, RedisFault};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{sleep, timeout},
};

use revocation_list::List;

/// The maximum time of a step on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(20);

fn alice() -> Username {
    "alice".parse().expect("a valid name")
}

fn reader_at(at: impl Into<Location>) -> RedisSessions {
    RedisSessions::new(at, Timestamp::now).expect("an address")
}

fn writer_at(at: impl Into<Location>, list: &Arc<List>) -> RedisSessions {
    RedisSessions::with_revocations(at, Timestamp::now, list.clone()).expect("an address")
}

/// Waits until the sessions are not ready for a reason that contains `word`, or are ready when `word` is `None`.
async fn wait_for_reason(sessions: &RedisSessions, word: Option<&str>) {
    let mut last = None;
    let changed = async {
        loop {
            last = sessions.not_ready_reason().await;
            let matches = match (&last, word) {
                (Some(reason), Some(word)) => reason.contains(word),
                (last, word) => last.is_none() && word.is_none(),
            };
            if matches {
                return;
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    if timeout(TIMEOUT, changed).await.is_err() {
        panic!("expected {word:?}, got {last:?}");
    }
}

#[tokio::test]
async fn rejected_writes_are_reported_and_a_full_redis_still_closes_sessions() {
    let redis = Redis::start();
    let list = Arc::new(List::default());
    let (writer, reader) = (writer_at(&redis.url(), &list), reader_at(&redis.url()));
    wait_for_reason(&writer, None).await;
    wait_for_reason(&reader, None).await;
    for fault in RedisFault::ALL {
        let token = writer.open(&alice()).await.expect("Redis accepts writes");
        fault.inject(&redis);
        wait_for_reason(&writer, Some(fault.word())).await;
        assert!(reader.find(&token).await.expect("Redis serves reads").is_some(), "{fault:?}");
        assert!(writer.open(&alice()).await.is_err(), "{fault:?}");
        let closed = writer.close(&token).await;
        match fault {
            RedisFault::Full => {
                assert!(closed.expect("a full Redis deletes keys"), "the session was live");
                assert_eq!(reader.find(&token).await.expect("Redis serves reads"), None);
                assert!(list.has(&token.id()), "the session is revoked durably");
            }
            _ => assert!(closed.is_err(), "{fault:?}: an open session is not reported as closed"),
        }
        fault.clear(&redis);
        wait_for_reason(&writer, None).await;
        wait_for_reason(&reader, None).await;
    }
}

/// A way in which sessions end.
#[derive(Debug, Clone, Copy)]
enum Ending {
    /// A logout.
    Logout,
    /// A login beyond the limit.
    Eviction,
    /// A login that replaces sessions.
    Supersession,
    /// The first use of a session that replaces others.
    FirstUse,
    /// The end of all sessions of a user.
    All,
}

impl Ending {
    /// Ends the session `old`. `new` is an unused session that replaces it.
    async fn run(self, writer: &RedisSessions, old: &Token, new: &Token) -> Result<(), Error> {
        match self {
            Self::Logout => writer.close(old).await.map(drop),
            Self::Eviction => writer.open(&alice()).await.map(drop),
            Self::Supersession => writer.supersede(&new.id()).await,
            Self::FirstUse => writer.find(new).await.map(drop),
            Self::All => writer.close_all(&alice()).await,
        }
    }
}

/// While no process would receive the end of a session, nothing ends, however often the request is repeated.
#[tokio::test]
async fn no_session_ends_without_a_closing() {
    for (ending, lost) in [
        (Ending::Logout, "-publish"),
        (Ending::Logout, "resetchannels"),
        (Ending::Logout, "-set"),
        (Ending::Eviction, "-publish"),
        (Ending::Supersession, "-publish"),
        (Ending::FirstUse, "-publish"),
        (Ending::FirstUse, "-set"),
        (Ending::All, "-publish"),
    ] {
        let redis = Redis::start();
        let list = Arc::new(List::default());
        let (writer, reader) = (writer_at(&redis.url(), &list), reader_at(&redis.admin_url()));
        wait_for_reason(&writer, None).await;
        wait_for_reason(&reader, None).await;
        let old = writer.open(&alice()).await.expect("Redis accepts writes");
        let mut new = None;
        match ending {
            Ending::Eviction => {
                for _ in 1..PER_USER {
                    writer.open(&alice()).await.expect("Redis accepts writes");
                }
            }
            Ending::Supersession | Ending::FirstUse => {
                let replacing = writer.replace(&alice(), std::slice::from_ref(&old)).await;
                new = Some(replacing.expect("Redis accepts writes"));
            }
            Ending::Logout | Ending::All => {}
        }
        let new = new.unwrap_or_else(|| old.clone());
        let mut closings = reader.closings();
        let what = format!("{ending:?} {lost}");
        redis.execute(&format!("ACL SETUSER godzilla {lost}"));
        for _ in 0..3 {
            let refused = ending.run(&writer, &old, &new).await;
            assert!(refused.is_err(), "{what}");
            let live = reader.is_live(&old.id()).await.expect("Redis serves reads");
            assert!(live && closings.is_empty(), "{what}: the session stays");
        }
        redis.execute("ACL SETUSER godzilla +@all allchannels");
        ending.run(&writer, &old, &new).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        let closing =
            timeout(TIMEOUT, closings.recv()).await.unwrap_or_else(|_| panic!("{what}: no closing"));
        assert_eq!(closing.expect("no lag").id, old.id(), "{what}");
    }
}

/// A full Redis closes sessions by a path of its own, which needs the right to publish, too.
#[tokio::test]
async fn a_full_redis_closes_no_session_without_a_closing() {
    let redis = Redis::start();
    let list = Arc::new(List::default());
    let (writer, reader) = (writer_at(&redis.url(), &list), reader_at(&redis.admin_url()));
    wait_for_reason(&writer, None).await;
    wait_for_reason(&reader, None).await;
    let token = writer.open(&alice()).await.expect("Redis accepts writes");
    let mut closings = reader.closings();
    RedisFault::Full.inject(&redis);
    redis.execute("ACL SETUSER godzilla -publish");
    for _ in 0..2 {
        assert!(writer.close(&token).await.is_err());
        assert!(reader.is_live(&token.id()).await.expect("Redis serves reads"));
    }
    redis.execute("ACL SETUSER godzilla +publish");
    assert!(writer.close(&token).await.expect("a full Redis deletes keys"), "the session was live");
    let closing = timeout(TIMEOUT, closings.recv()).await.expect("a closing is received");
    assert_eq!(closing.expect("no lag").id, token.id());
}

/// Accounts starts with a counter that was restored from a backup, while Redis and the gateways have a later generation.
#[tokio::test]
async fn a_restored_generation_counter_does_not_block_sessions() {
    for redis_is_empty in [false, true] {
        let redis = Redis::start();
        let list = Arc::new(List::default());
        list.generation.store(10, Relaxed);
        let writer = writer_at(&redis.url(), &list);
        let reader = reader_at(&redis.url());
        wait_for_reason(&writer, None).await;
        wait_for_reason(&reader, None).await;
        drop(writer);
        list.generation.store(0, Relaxed);
        if redis_is_empty {
            redis.execute("FLUSHALL");
        }
        let writer = writer_at(&redis.url(), &list);
        wait_for_reason(&writer, None).await;
        wait_for_reason(&reader, None).await;
        let token = writer.open(&alice()).await.expect("Redis accepts writes");
        assert!(reader.find(&token).await.expect("Redis serves reads").is_some());
    }
}

/// A TCP proxy to Redis that can stop forwarding on its open connections, as when a network device has dropped them.
struct FlakyNetwork {
    address: SocketAddr,
    stall: watch::Sender<u32>,
}

impl FlakyNetwork {
    async fn to(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let (stall, stalled) = watch::channel(0);
        let address = listener.local_addr().expect("a bound socket");
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut stalled = stalled.clone();
                stalled.mark_unchanged();
                tokio::spawn(async move {
                    let Ok(mut redis) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else { return };
                    tokio::select! {
                        _ = copy_bidirectional(&mut client, &mut redis) => {}
                        _ = stalled.changed() => {
                            // Both connections stay open and no byte is forwarded.
                            sleep(10 * TIMEOUT).await;
                        }
                    }
                });
            }
        });
        Self { address, stall }
    }
}

/// Waits until the subscription of `sessions` is established, or not.
async fn wait_for_subscription(sessions: &RedisSessions, is_subscribed: bool) {
    let changed = async {
        while sessions.is_subscribed() != is_subscribed {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(TIMEOUT, changed).await.unwrap_or_else(|_| panic!("expected subscribed: {is_subscribed}"));
}

/// Waits for a report that closings may have been missed.
async fn wait_for_missed(closings: &mut Closings, name: &str) {
    let reported = async { while closings.recv().await != Err(RecvError::Missed) {} };
    timeout(TIMEOUT, reported).await.unwrap_or_else(|_| panic!("{name}: no report"));
}

#[tokio::test]
async fn the_subscription_recovers_from_each_kind_of_loss_and_reports_it() {
    let mut redis = Redis::start();
    let list = Arc::new(List::default());
    let writer = writer_at(&redis.url(), &list);
    wait_for_reason(&writer, None).await;
    let network = FlakyNetwork::to(redis.port()).await;
    let url = redis.url().replace(&redis.port().to_string(), &network.address.port().to_string());
    let reader = reader_at(&url);
    wait_for_reason(&reader, None).await;
    for loss in ["killed", "killed again and again", "stalled", "forbidden", "restarted"] {
        let mut closings = reader.closings();
        match loss {
            "killed" => redis.execute("CLIENT KILL TYPE pubsub"),
            "killed again and again" => {
                for _ in 0..5 {
                    redis.execute("CLIENT KILL TYPE pubsub");
                    wait_for_missed(&mut closings, loss).await;
                    wait_for_subscription(&reader, true).await;
                }
                redis.execute("CLIENT KILL TYPE pubsub");
            }
            "stalled" => network.stall.send_modify(|count| *count += 1),
            "forbidden" => {
                redis.execute("ACL SETUSER godzilla resetchannels");
                wait_for_reason(&reader, Some("rights")).await;
                // Each attempt is reported, because sessions can be checked without the subscription.
                for _ in 0..3 {
                    wait_for_missed(&mut closings, loss).await;
                }
                redis.execute("ACL SETUSER godzilla allchannels");
                wait_for_subscription(&reader, true).await;
            }
            _ => {
                redis.kill();
                wait_for_subscription(&reader, false).await;
                redis.restart();
            }
        }
        wait_for_missed(&mut closings, loss).await;
        // Closings after the report are received.
        wait_for_reason(&writer, None).await;
        wait_for_reason(&reader, None).await;
        let token = writer.open(&alice()).await.expect("Redis accepts writes");
        let mut closings = reader.closings();
        assert!(writer.close(&token).await.expect("Redis accepts writes"), "{loss}");
        let closing =
            timeout(TIMEOUT, closings.recv()).await.unwrap_or_else(|_| panic!("{loss}: no closing"));
        assert_eq!(closing, Ok(Closing::ended(token.id())), "{loss}");
    }
}

/// A generation that was published while the subscription was interrupted is read from the fence record. Otherwise an older Redis that is
/// put back later would be trusted.
#[tokio::test]
async fn a_generation_that_was_published_without_a_subscription_is_read() {
    let redis = Redis::start();
    redis.execute("ACL SETUSER reader on >secret ~* &* +@all");
    let list = Arc::new(List::default());
    let writer = writer_at(&redis.url(), &list);
    wait_for_reason(&writer, None).await;
    let older = redis.query("EVAL \"return {ok=redis.call('GET','sessions:run')}\" 0");
    let older = older.trim_start_matches('+');
    let reader = reader_at(&redis.url().replace("godzilla", "reader"));
    wait_for_subscription(&reader, true).await;
    let token = writer.open(&alice()).await.expect("Redis accepts writes");
    redis.execute("ACL SETUSER reader resetchannels");
    wait_for_subscription(&reader, false).await;
    drop(writer);
    let writer = writer_at(&redis.url(), &list);
    wait_for_reason(&writer, None).await;
    redis.execute("ACL SETUSER reader allchannels");
    wait_for_subscription(&reader, true).await;
    drop(writer);
    redis.execute(&format!("SET sessions:run \"{older}\""));
    assert!(reader.find(&token).await.is_err(), "the record of an older Redis is not trusted");
}

#[tokio::test]
async fn deployments_that_share_a_redis_are_isolated() {
    let redis = Redis::start();
    let named = |name: &str| Location::new(&redis.url(), &name.parse::<Deployment>().expect("a name"));
    let other_database = Location::from(&redis.url().replace("/0", "/1"));
    let here = Arc::new(List::default());
    let (writer, reader) = (writer_at(named(""), &here), reader_at(named("")));
    wait_for_reason(&reader, None).await;
    let token = writer.open(&alice()).await.expect("Redis accepts writes");
    let mut closings = reader.closings();
    for elsewhere in [named("blue"), named("green-2"), other_database] {
        let list = Arc::new(List::default());
        // The generations of different deployments are independent.
        list.generation.store(100, Relaxed);
        let other = writer_at(elsewhere, &list);
        wait_for_reason(&other, None).await;
        let found = other.find(&token).await.expect("Redis serves reads");
        assert_eq!(found, None, "sessions of other deployments are not found");
        let own = other.open(&alice()).await.expect("Redis accepts writes");
        assert!(other.close(&own).await.expect("Redis accepts writes"));
        assert!(!other.close(&token).await.expect("Redis accepts writes"));
        let found = reader.find(&token).await.expect("Redis serves reads");
        assert!(found.is_some(), "other deployments do not close the session");
        assert_eq!(reader.not_ready_reason().await, None);
    }
    assert!(writer.close(&token).await.expect("Redis accepts writes"));
    let first = timeout(TIMEOUT, closings.recv()).await.expect("a closing is received").expect("no lag");
    assert_eq!(first.id, token.id(), "closings of other deployments are not received");
}

/// The users were restored from a backup, and another user registers under the name of an existing session.
#[tokio::test]
async fn close_all_closes_the_sessions_of_one_name() {
    let redis = Redis::start();
    let list = Arc::new(List::default());
    let (writer, reader) = (writer_at(&redis.url(), &list), reader_at(&redis.url()));
    wait_for_reason(&writer, None).await;
    wait_for_reason(&reader, None).await;
    let tokens = [writer.open(&alice()).await.unwrap(), writer.open(&alice()).await.unwrap()];
    let bob = writer.open(&"bob".parse().unwrap()).await.unwrap();
    writer.close_all(&"ALICE".parse().unwrap()).await.unwrap();
    for token in &tokens {
        assert_eq!(reader.find(token).await.unwrap(), None);
        assert!(list.has(&token.id()), "the session is revoked durably");
    }
    assert!(reader.find(&bob).await.unwrap().is_some());
}
