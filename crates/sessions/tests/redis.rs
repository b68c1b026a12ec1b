//! Tests of sessions in a real Redis: the conformance suite, other processes, a crash, and an interrupted subscription.

use std::{sync::Arc, time::Duration};

use sessions::{Cause, Closing, LIFETIME_SECONDS, RecvError, RedisSessions, Sessions, conformance};
use testkit::Redis;
use tokio::time::{sleep, timeout};

/// Sessions whose subscription is established.
async fn ready(redis: &Redis) -> RedisSessions {
    let sessions = RedisSessions::new(&redis.url()).expect("an address");
    until_ready(&sessions).await;
    sessions
}

async fn until_ready(sessions: &RedisSessions) {
    let ready = async {
        while sessions.not_ready_reason().await.is_some() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(20), ready).await.expect("Redis is ready");
}

#[tokio::test]
async fn conforms() {
    let redis = Redis::start();
    conformance::run(Arc::new(ready(&redis).await)).await.unwrap();
}

#[tokio::test]
async fn sessions_are_shared_by_processes_and_expire_after_their_lifetime() {
    let redis = Redis::start();
    let (accounts, chat) = (ready(&redis).await, ready(&redis).await);
    let mut closings = chat.closings();
    let token = accounts.open(&"Alice".parse().unwrap(), &[]).await.unwrap();
    assert_eq!(chat.find(&token.id()).await.unwrap(), Some("Alice".parse().unwrap()));
    let left: u64 = redis.query(&format!("TTL session:{}", token.id()))[1..].parse().unwrap();
    assert!(left <= LIFETIME_SECONDS && left > LIFETIME_SECONDS - 60, "{left}");
    accounts.close(&token.id()).await.unwrap();
    while closings.recv().await != Ok(Closing { id: token.id(), cause: Cause::Ended }) {}
    assert_eq!(chat.find(&token.id()).await.unwrap(), None);
}

#[tokio::test]
async fn a_crash_of_redis_loses_no_session_and_no_closing() {
    let mut redis = Redis::start();
    let sessions = ready(&redis).await;
    let alice = "alice".parse().unwrap();
    let (kept, closed) =
        (sessions.open(&alice, &[]).await.unwrap(), sessions.open(&alice, &[]).await.unwrap());
    sessions.close(&closed.id()).await.unwrap();
    let mut closings = sessions.closings();
    redis.kill();
    assert!(sessions.find(&kept.id()).await.is_err() && sessions.close(&kept.id()).await.is_err());
    redis.restart();
    until_ready(&sessions).await;
    assert_eq!(closings.recv().await, Err(RecvError::Missed));
    assert_eq!(sessions.find(&kept.id()).await.unwrap(), Some(alice));
    assert_eq!(sessions.find(&closed.id()).await.unwrap(), None);
}
