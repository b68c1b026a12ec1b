//! The conformance suite of [`Users`]. Each backend's tests call [`run`].

use std::{future::Future, sync::Arc};

use futures_util::future::join_all;
use proto::Username;

use super::{Creation, Users};
use crate::Error;

/// Runs the suite. `make` returns an empty backend; it is called once per test.
///
/// # Panics
/// When the backend fails a test.
pub async fn run<F, B>(make: F) -> Result<(), Error>
where
    F: Fn() -> B,
    B: Future<Output = Arc<dyn Users>>,
{
    a_created_user_is_found_with_the_registered_name(make().await).await?;
    names_are_unique_without_regard_to_case(make().await).await?;
    one_of_many_concurrent_creations_succeeds(make().await).await?;
    a_pattern_finds_no_user(make().await).await?;
    a_hash_is_replaced_unless_it_has_changed(make().await).await
}

async fn a_created_user_is_found_with_the_registered_name(users: Arc<dyn Users>) -> Result<(), Error> {
    assert!(users.is_empty().await?);
    assert_eq!(users.find("alice").await?, None);
    let alice = name("Alice");
    assert_eq!(users.create(&alice, "$2a$one").await?, Creation::Created);
    assert!(!users.is_empty().await?);
    let found = users.find(&alice.key()).await?.expect("a created user is found");
    assert_eq!((found.username, found.hash.as_str()), (alice, "$2a$one"));
    assert_eq!(users.find("bob").await?, None);
    Ok(())
}

async fn names_are_unique_without_regard_to_case(users: Arc<dyn Users>) -> Result<(), Error> {
    assert_eq!(users.create(&name("Alice"), "first").await?, Creation::Created);
    for twin in ["Alice", "alice", "ALICE"] {
        assert_eq!(users.create(&name(twin), "second").await?, Creation::Exists, "{twin}");
    }
    let found = users.find("alice").await?.expect("the first user is unchanged");
    assert_eq!((found.username, found.hash.as_str()), (name("Alice"), "first"));
    Ok(())
}

async fn one_of_many_concurrent_creations_succeeds(users: Arc<dyn Users>) -> Result<(), Error> {
    let alice = name("alice");
    let hashes: Vec<String> = (0..8).map(|number| format!("hash {number}")).collect();
    let all = join_all(hashes.iter().map(|hash| users.create(&alice, hash))).await;
    let all: Vec<Creation> = all.into_iter().collect::<Result<_, _>>()?;
    assert_eq!(all.iter().filter(|creation| **creation == Creation::Created).count(), 1);
    let winner = all.iter().position(|creation| *creation == Creation::Created).expect("counted above");
    assert_eq!(users.find("alice").await?.expect("one was created").hash, hashes[winner]);
    Ok(())
}

async fn a_pattern_finds_no_user(users: Arc<dyn Users>) -> Result<(), Error> {
    users.create(&name("alice"), "hash").await?;
    for pattern in ["", "%", "_____", "alic%", ".*", "alice\0", "alice ", "' OR 1=1 --", "{\"$gt\":\"\"}"] {
        assert_eq!(users.find(pattern).await?, None, "{pattern:?}");
    }
    Ok(())
}

async fn a_hash_is_replaced_unless_it_has_changed(users: Arc<dyn Users>) -> Result<(), Error> {
    users.create(&name("Alice"), "old").await?;
    users.create(&name("bob"), "old").await?;
    users.renew("alice", "old", "new").await?;
    users.renew("alice", "old", "newer").await?;
    users.renew("carol", "old", "new").await?;
    for (key, hash) in [("alice", "new"), ("bob", "old")] {
        assert_eq!(users.find(key).await?.expect("registered").hash, hash);
    }
    assert_eq!(users.find("carol").await?, None);
    assert_eq!(users.find("alice").await?.expect("registered").username, name("Alice"));
    Ok(())
}

fn name(text: &str) -> Username {
    text.parse().expect("a valid name")
}
