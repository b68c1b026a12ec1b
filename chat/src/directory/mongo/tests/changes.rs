//! Tests of the changes that are stored in the documents of rooms.

use futures_util::TryStreamExt;

use super::*;
use crate::{
    changes::{Changes, KEPT},
    directory::{Additions, ChangeKind, mongo::changes::recent_filter},
};

#[actix_rt::test]
async fn every_change_is_stored_with_its_version_for_all_nodes() {
    let mongo = Mongo::start().await;
    let database = database(&mongo).await;
    let (here, there) = (MongoDirectory::new(&database), MongoDirectory::new(&database));
    here.prepare().await.unwrap();
    let (tea, limits) = (room("tea"), Additions { per_user: LIMIT, per_adder: LIMIT });
    here.create(
        NewRoom { settings: Settings { private: false, ephemeral: true }, ..new("tea", "Alice") },
        LIMIT,
        no_callback(),
    )
    .await
    .unwrap();
    there.add(&tea, &user("Bob"), LIMIT, no_callback()).await.unwrap();
    here.add_by(&tea, &user("carol"), &user("Alice"), limits, no_callback()).await.unwrap();
    here.remove(&tea, &user("bob"), &user("alice"), no_callback()).await.unwrap();
    there.leave(&tea, &user("carol"), no_callback()).await.unwrap();
    there.change_settings(&tea, &user("alice"), &set_private(true), no_callback()).await.unwrap();
    // Not a change.
    there.remove(&tea, &user("dave"), &user("alice"), no_callback()).await.unwrap();
    here.archive(&tea, &user("alice"), no_callback()).await.unwrap();
    let renewed = here.clone().without_reuse_delay();
    renewed
        .create(
            NewRoom { settings: Settings { private: false, ephemeral: true }, ..new("tea", "Dave") },
            LIMIT,
            no_callback(),
        )
        .await
        .unwrap();

    let found = here.of(&[tea.clone(), room("absent")]).await.unwrap();
    let [changed] = &found[..] else { panic!("{found:?}") };
    assert!(changed.is_tracked() && changed.is_open && changed.version == 8, "{changed:?}");
    let stored: Vec<_> =
        changed.changes.iter().map(|change| (change.version, change.what.clone(), change.is_own)).collect();
    let (joined, left) = (|name| ChangeKind::Joined(user(name)), |name| ChangeKind::Left(user(name)));
    let expected = [
        (joined("Alice"), true),
        (joined("Bob"), false),
        (joined("carol"), true),
        (left("bob"), true),
        (left("carol"), false),
        (ChangeKind::Other, false),
        (ChangeKind::Archived, true),
        (ChangeKind::Renewed(user("Dave")), true),
    ];
    let expected: Vec<_> =
        expected.into_iter().zip(1..).map(|((what, own), version)| (version, what, own)).collect();
    assert_eq!(stored, expected);
    assert_eq!(there.recent().await.unwrap(), [(tea.clone(), 8)]);
    assert_eq!(there.versions(std::slice::from_ref(&tea)).await.unwrap(), [(tea.clone(), 8)]);
    assert_eq!(there.members(&tea).await.unwrap(), [user("Dave")]);

    // An earlier release changes the room without storing the change.
    let rooms = database.collection::<Document>("rooms");
    rooms.update_one(doc! { "_id": "tea" }, doc! { "$inc": { "version": 1_i64 } }).await.unwrap();
    assert!(!there.of(&[tea]).await.unwrap()[0].is_tracked());
}

#[actix_rt::test]
async fn latest_changes_are_kept_and_found_by_an_index() {
    let mongo = Mongo::start().await;
    let database = database(&mongo).await;
    let directory = MongoDirectory::new(&database);
    directory.prepare().await.unwrap();
    directory.create(new("tea", "alice"), LIMIT, no_callback()).await.unwrap();
    for n in 0..KEPT {
        directory.add(&room("tea"), &user(&format!("user{n}")), LIMIT, no_callback()).await.unwrap();
    }
    let changed = directory.of(&[room("tea")]).await.unwrap().remove(0);
    assert_eq!((changed.changes.len(), changed.changes[0].version), (KEPT, 2));
    let find = doc! { "find": "rooms", "filter": recent_filter(), "sort": { "changed": -1 } };
    let plan = database.run_command(doc! { "explain": find }).await.unwrap().to_string();
    assert!(plan.contains("IXSCAN") && !plan.contains("COLLSCAN"), "{plan}");
    // A room of an earlier release has no recent changes.
    let rooms = database.collection::<Document>("rooms");
    rooms.update_many(doc! {}, doc! { "$unset": { "changed": "", "recent": "" } }).await.unwrap();
    assert_eq!(directory.recent().await.unwrap(), []);
    let stored: Vec<Document> = rooms.find(doc! {}).await.unwrap().try_collect().await.unwrap();
    assert_eq!(stored.len(), 1);
    assert!(!directory.of(&[room("tea")]).await.unwrap()[0].is_tracked());
}
