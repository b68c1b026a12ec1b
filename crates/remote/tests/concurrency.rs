//! Many concurrent requests to a real Redis.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use remote::{Redis, redis::AsyncCommands};

#[tokio::test]
async fn a_thousand_concurrent_requests_all_get_responses() {
    let server = testkit::Redis::start();
    let redis = Redis::new(&server.url(), 2).expect("an address");
    let requests = (0..1000).map(|n: u32| {
        let redis = redis.clone();
        async move { redis.ask(async |mut redis| redis.incr::<_, _, u32>("count", n).await).await }
    });
    let responses = join_all(requests).await;
    assert_eq!(responses.into_iter().filter(Result::is_ok).count(), 1000);
    let sum: u32 = redis.ask(async |mut redis| redis.get("count").await).await.expect("a response");
    assert_eq!(sum, (0..1000).sum());
}

#[tokio::test]
async fn an_outage_fails_all_waiting_requests_and_ends_at_the_next_response() {
    let mut server = testkit::Redis::start();
    let redis = Redis::new(&server.url(), 2).expect("an address");
    let ask = async || redis.ask(async |mut redis| redis.ping::<String>().await).await;
    ask().await.expect("a response");
    server.pause();
    let started = Instant::now();
    let responses = join_all((0..1000).map(|_| ask())).await;
    assert!(responses.into_iter().all(|response| response.is_err()));
    // One deadline after the other would take two minutes.
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    server.resume();
    while ask().await.is_err() {}
    join_all((0..100).map(|_| ask()))
        .await
        .into_iter()
        .for_each(|response| drop(response.expect("a response after the outage")));
    server.kill();
    assert!(ask().await.is_err());
    server.restart();
    while ask().await.is_err() {}
}
