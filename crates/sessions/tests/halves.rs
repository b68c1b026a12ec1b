//! Sessions in a Redis that works by half, that several deployments share, or whose counter of generations was restored.

#[path = "list/mod.rs"]
mod list;

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use proto::{Timestamp, Username};
use remote::{Deployment, Location};
use sessions::{RedisSessions, Sessions};
use testkit::{Redis, RedisFault};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{sleep, timeout},
};

use list::List;

/// How long what has to happen may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

fn alice() -> Username {
    "alice".parse().expect("a good name")
}

fn finding(at: impl Into<Location>) -> RedisSessions {
    RedisSessions::new(at, Timestamp::now).expect("an address")
}

fn keeping(at: impl Into<Location>, list: &Arc<List>) -> RedisSessions {
    RedisSessions::keeping(at, Timestamp::now, list.clone()).expect("an address")
}

/// Waits until the obstacle is one with this word, or none.
async fn not_ready_reason(sessions: &RedisSessions, word: Option<&str>) {
    let mut last = None;
    let becomes = async {
        loop {
            last = sessions.not_ready_reason().await;
            let fits = match (&last, word) {
                (Some(words), Some(word)) => words.contains(word),
                (last, word) => last.is_none() && word.is_none(),
            };
            if fits {
                return;
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    if timeout(PATIENCE, becomes).await.is_err() {
        panic!("{word:?} is wanted and not {last:?}");
    }
}

#[tokio::test]
async fn a_redis_that_refuses_writes_is_named_and_a_full_one_still_closes_sessions() {
    let redis = Redis::start();
    let list = Arc::new(List::default());
    let (writer, finder) = (keeping(&redis.url(), &list), finding(&redis.url()));
    not_ready_reason(&writer, None).await;
    not_ready_reason(&finder, None).await;
    for refusal in RedisFault::ALL {
        let token = writer.open(&alice()).await.expect("Redis takes writes");
        refusal.inject(&redis);
        not_ready_reason(&writer, Some(refusal.word())).await;
        assert!(finder.find(&token).await.expect("Redis can be read").is_some(), "{refusal:?}");
        assert!(writer.open(&alice()).await.is_err(), "{refusal:?}");
        let closed = writer.close(&token).await;
        match refusal {
            RedisFault::Full => {
                assert!(closed.expect("a full Redis deletes"), "the session was there");
                assert_eq!(finder.find(&token).await.expect("Redis can be read"), None);
                assert!(list.has(&token.id()), "closed for good");
            }
            _ => assert!(closed.is_err(), "{refusal:?}: said to be closed, and it is not"),
        }
        refusal.clear(&redis);
        not_ready_reason(&writer, None).await;
        not_ready_reason(&finder, None).await;
    }
}

/// Accounts starts on a counter that was restored from a backup, while Redis and gateways know a later generation.
#[tokio::test]
async fn a_counter_of_generations_that_was_restored_locks_nobody_out() {
    for redis_forgets in [false, true] {
        let redis = Redis::start();
        let list = Arc::new(List::default());
        list.generation.store(10, Relaxed);
        let writer = keeping(&redis.url(), &list);
        let finder = finding(&redis.url());
        not_ready_reason(&writer, None).await;
        not_ready_reason(&finder, None).await;
        drop(writer);
        list.generation.store(0, Relaxed);
        if redis_forgets {
            redis.execute("FLUSHALL");
        }
        let writer = keeping(&redis.url(), &list);
        not_ready_reason(&writer, None).await;
        not_ready_reason(&finder, None).await;
        let token = writer.open(&alice()).await.expect("Redis takes writes");
        assert!(finder.find(&token).await.expect("Redis can be read").is_some());
    }
}

/// A way to Redis on which connections can fall silent, as when a network device has dropped them.
struct Way {
    address: SocketAddr,
    silence: watch::Sender<u32>,
}

impl Way {
    async fn to(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let (silence, silent) = watch::channel(0);
        let address = listener.local_addr().expect("a bound socket");
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut silent = silent.clone();
                silent.mark_unchanged();
                tokio::spawn(async move {
                    let Ok(mut redis) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else { return };
                    tokio::select! {
                        _ = copy_bidirectional(&mut client, &mut redis) => {}
                        _ = silent.changed() => {
                            // Both sides stay open and nothing passes any more.
                            sleep(10 * PATIENCE).await;
                        }
                    }
                });
            }
        });
        Self { address, silence }
    }
}

#[tokio::test]
async fn closings_are_heard_again_whatever_became_of_the_channel() {
    let redis = Redis::start();
    let list = Arc::new(List::default());
    let writer = keeping(&redis.url(), &list);
    not_ready_reason(&writer, None).await;
    let way = Way::to(redis.port()).await;
    let url = redis.url().replace(&redis.port().to_string(), &way.address.port().to_string());
    let finder = finding(&url);
    not_ready_reason(&finder, None).await;
    for loss in ["killed", "silent", "forbidden"] {
        match loss {
            "killed" => redis.execute("CLIENT KILL TYPE pubsub"),
            "silent" => way.silence.send_modify(|count| *count += 1),
            _ => {
                redis.execute("ACL SETUSER godzilla resetchannels");
                not_ready_reason(&finder, Some("rights")).await;
                redis.execute("ACL SETUSER godzilla allchannels");
            }
        }
        // A closing that was lost is found by who has sockets; those from now on are heard.
        let mut closings = finder.closings();
        let heard = async {
            loop {
                let Ok(token) = writer.open(&alice()).await else { continue };
                let _ = writer.close(&token).await;
                if let Ok(Ok(_)) = timeout(Duration::from_millis(200), closings.recv()).await {
                    return;
                }
            }
        };
        timeout(PATIENCE, heard).await.unwrap_or_else(|_| panic!("{loss}: no closing is heard any more"));
        not_ready_reason(&finder, None).await;
    }
}

#[tokio::test]
async fn deployments_that_share_a_redis_know_nothing_of_each_other() {
    let redis = Redis::start();
    let named = |name: &str| Location::new(&redis.url(), &name.parse::<Deployment>().expect("a name"));
    let other_database = Location::from(&redis.url().replace("/0", "/1"));
    let here = Arc::new(List::default());
    let (writer, finder) = (keeping(named(""), &here), finding(named("")));
    not_ready_reason(&finder, None).await;
    let token = writer.open(&alice()).await.expect("Redis takes writes");
    let mut closings = finder.closings();
    for elsewhere in [named("blue"), named("green-2"), other_database] {
        let list = Arc::new(List::default());
        // A later generation there says nothing of the Redis here.
        list.generation.store(100, Relaxed);
        let other = keeping(elsewhere, &list);
        not_ready_reason(&other, None).await;
        assert_eq!(other.find(&token).await.expect("Redis can be read"), None, "a session of another one");
        let theirs = other.open(&alice()).await.expect("Redis takes writes");
        assert!(other.close(&theirs).await.expect("Redis takes writes"));
        assert!(!other.close(&token).await.expect("Redis takes writes"));
        assert!(finder.find(&token).await.expect("Redis can be read").is_some(), "closed by another one");
        assert_eq!(finder.not_ready_reason().await, None);
    }
    assert!(writer.close(&token).await.expect("Redis takes writes"));
    let first =
        timeout(PATIENCE, closings.recv()).await.expect("a closing is heard").expect("none was missed");
    assert_eq!(first.id, token.id(), "the first closing that is heard here is from here");
}

/// The users were restored from a backup, and somebody else registers under the name of a session that is there.
#[tokio::test]
async fn all_sessions_of_a_name_are_closed_before_somebody_else_gets_it() {
    let redis = Redis::start();
    let list = Arc::new(List::default());
    let (writer, finder) = (keeping(&redis.url(), &list), finding(&redis.url()));
    not_ready_reason(&writer, None).await;
    not_ready_reason(&finder, None).await;
    let tokens = [writer.open(&alice()).await.unwrap(), writer.open(&alice()).await.unwrap()];
    let bob = writer.open(&"bob".parse().unwrap()).await.unwrap();
    writer.close_all(&"ALICE".parse().unwrap()).await.unwrap();
    for token in &tokens {
        assert_eq!(finder.find(token).await.unwrap(), None);
        assert!(list.has(&token.id()), "closed for good");
    }
    assert!(finder.find(&bob).await.unwrap().is_some());
}
