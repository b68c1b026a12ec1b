//! Tests of the pool: limits, counters, and hashes of other implementations.

use std::{net::IpAddr, sync::mpsc};

use futures_util::FutureExt;

use super::*;

fn password(text: &str) -> Password {
    Password::new(text).unwrap()
}

/// Checks a password with the pool's cost.
async fn is(pool: &Pool, password: Password, hash: String) -> Result<bool, Error> {
    let checked = pool.verify(None, password, hash, pool.cost).await?;
    Ok(matches!(checked, Checked::Match { .. }))
}

/// Keeps one thread of the pool busy until the sender is dropped.
pub async fn occupy(pool: &Pool) -> mpsc::Sender<()> {
    let (stay, until) = mpsc::channel::<()>();
    let (here, began) = oneshot::channel();
    let work = move || {
        let _ = here.send(());
        let _ = until.recv();
    };
    assert!(matches!(pool.queue.push(None, Box::new(work)), Ok(None)));
    began.await.unwrap();
    stay
}

/// Fills the queue.
pub fn fill(pool: &Pool) {
    for address in 0..u8::MAX {
        let _ = pool.queue.push(Some(IpAddr::from([10, 0, 0, address])), Box::new(|| ()));
    }
}

/// As much from one address as that has room for.
pub fn flood(pool: &Pool, address: IpAddr) {
    while let Ok(None) = pool.queue.push(Some(address), Box::new(|| ())) {}
}

/// Returns when a password from this address waits, after 30 s in any case.
pub async fn awaits(pool: &Pool, address: IpAddr) {
    let until = Instant::now() + Duration::from_secs(30);
    while !pool.queue.has(Some(address)) && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[actix_rt::test]
async fn a_hash_verifies_its_password_only() {
    let pool = Pool::new(1, 4, 4).unwrap();
    let hash = pool.hash(None, password("correct horse")).await.unwrap();
    assert!(hash.starts_with("$2b$04$"), "{hash}");
    assert!(is(&pool, password("correct horse"), hash.clone()).await.unwrap());
    for wrong in ["correct hors", "correct horse ", "Correct horse"] {
        assert!(!is(&pool, password(wrong), hash.clone()).await.unwrap(), "{wrong}");
    }
    assert_eq!(pool.verified(), 4);
}

#[actix_rt::test]
async fn the_last_of_71_bytes_counts() {
    let pool = Pool::new(1, 4, 4).unwrap();
    let hash = pool.hash(None, password(&"a".repeat(71))).await.unwrap();
    let changed = format!("{}b", "a".repeat(70));
    assert!(!is(&pool, password(&changed), hash.clone()).await.unwrap());
    assert!(!is(&pool, password(&"a".repeat(70)), hash.clone()).await.unwrap());
    assert!(is(&pool, password(&"a".repeat(71)), hash).await.unwrap());
}

#[actix_rt::test]
async fn hashes_of_the_original_application_verify() {
    let pool = Pool::new(1, 4, 4).unwrap();
    let parts = bcrypt::non_truncating_hash_with_result("correct horse", 5).unwrap();
    for version in [bcrypt::Version::TwoA, bcrypt::Version::TwoY, bcrypt::Version::TwoB] {
        let hash = parts.format_for_version(version);
        assert!(is(&pool, password("correct horse"), hash.clone()).await.unwrap(), "{hash}");
    }
}

#[actix_rt::test]
async fn a_mismatch_costs_the_same_for_all_hashes_and_a_match_rehashes_other_costs() {
    let pool = Pool::new(1, 4, 5).unwrap();
    for (cost, level) in [(4, 7), (5, 7), (6, 7), (7, 7), (4, 4), (7, 4)] {
        let stored = hash(&password("correct horse"), cost).unwrap();
        let before = pool.rounds();
        let mismatch = pool.verify(None, password("wrong horse"), stored.clone(), level).await.unwrap();
        assert_eq!((mismatch, pool.rounds() - before), (Checked::Mismatch, 1 << level.max(cost)));
        let matched = pool.verify(None, password("correct horse"), stored, level).await.unwrap();
        let Checked::Match { renewed } = matched else { panic!("{cost}: {matched:?}") };
        assert_eq!(renewed.as_deref().map(|hash| cost_of(hash).unwrap()), (cost != 5).then_some(5));
        if let Some(renewed) = renewed {
            assert!(is(&pool, password("correct horse"), renewed).await.unwrap());
        }
    }
}

#[actix_rt::test]
async fn a_damaged_hash_is_an_error_and_the_pool_continues() {
    let pool = Pool::new(1, 4, 4).unwrap();
    let good = pool.hash(None, password("correct horse")).await.unwrap();
    let dear = good.replace("$04$", "$31$");
    let other = good.replace("$2b$", "$2x$");
    let text = "é".repeat(30);
    for bad in ["", "x", "$2b$04$short", "correct horse", &text, &good[..59], &dear, &other] {
        let outcome = is(&pool, password("correct horse"), bad.to_owned()).await;
        assert!(matches!(outcome, Err(Error::Damaged(_))), "{bad}");
    }
    let panicked = pool.run(None, || -> Result<(), Error> { panic!("a planted fault") }).await;
    assert!(matches!(panicked, Err(Error::Internal(_))));
    assert!(is(&pool, password("correct horse"), good).await.unwrap());
}

#[actix_rt::test]
async fn a_full_queue_refuses_at_once_and_abandoned_calls_are_skipped() {
    let pool = Pool::new(1, 8, 4).unwrap();
    let hash = pool.hash(None, password("correct horse")).await.unwrap();
    let stay = occupy(&pool).await;
    let check = || is(&pool, password("correct horse"), hash.clone()).boxed_local();
    let (mut kept, mut abandoned) = (check(), check());
    assert!(kept.as_mut().now_or_never().is_none());
    assert!(abandoned.as_mut().now_or_never().is_none());
    assert!(matches!(check().await, Err(Error::Overloaded)));
    drop((abandoned, stay));
    assert!(kept.await.unwrap());
    assert!(check().await.unwrap());
    assert_eq!(pool.verified(), 2);
}
