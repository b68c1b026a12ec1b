//! Many questions to a real Redis.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use remote::{Redis, redis::AsyncCommands};

#[tokio::test]
async fn a_thousand_questions_at_once_are_all_answered() {
    let server = testkit::Redis::start();
    let redis = Redis::new(&server.url(), 2).expect("an address");
    let asked = (0..1000).map(|n: u32| {
        let redis = redis.clone();
        async move { redis.ask(async |mut redis| redis.incr::<_, _, u32>("count", n).await).await }
    });
    let answers = join_all(asked).await;
    assert_eq!(answers.into_iter().filter(Result::is_ok).count(), 1000);
    let sum: u32 = redis.ask(async |mut redis| redis.get("count").await).await.expect("answers");
    assert_eq!(sum, (0..1000).sum());
}

#[tokio::test]
async fn when_one_is_not_answered_all_that_wait_fail_and_the_next_answer_ends_it() {
    let mut server = testkit::Redis::start();
    let redis = Redis::new(&server.url(), 2).expect("an address");
    let ask = async || redis.ask(async |mut redis| redis.ping::<String>().await).await;
    ask().await.expect("answers");
    server.pause();
    let started = Instant::now();
    let answers = join_all((0..1000).map(|_| ask())).await;
    assert!(answers.into_iter().all(|answer| answer.is_err()));
    // One after the other they would take a minute and more.
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    server.resume();
    while ask().await.is_err() {}
    join_all((0..100).map(|_| ask()))
        .await
        .into_iter()
        .for_each(|answer| drop(answer.expect("answers again")));
    server.kill();
    assert!(ask().await.is_err());
    server.restart();
    while ask().await.is_err() {}
}

#[test]
fn what_is_no_address_is_refused_and_not_shown() {
    for url in ["", "s3cret", "http://s3cret", "redis://"] {
        if let Err(error) = Redis::new(url, 1) {
            assert!(!error.to_string().contains("s3cret"));
        } else {
            assert_eq!(url, "redis://", "only the host may be left out");
        }
    }
}
