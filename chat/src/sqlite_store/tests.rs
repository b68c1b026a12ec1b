//! A client that recovers from the file while its memberships change.

use proto::{RoomName, Username, event::Settings};

use super::*;
use crate::{
    directory::{NewRoom, shorthand::Shorthand},
    history::MissedBy,
};

/// The rooms of a client that recovers were read before its membership began or ended, and the log after it. The live event is then dropped
/// as a duplicate, so the client must not recover.
#[actix_rt::test]
async fn a_client_whose_membership_changes_while_it_recovers_does_not_recover() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&dir.path().join("chat.sqlite3")).unwrap();
    let (directory, journal) = (store.directory(), store.journal());
    let user = |name: &str| name.parse::<Username>().unwrap();
    let (alice, bob) = (user("alice"), user("bob"));
    // What bob or alice does, whether bob was in the room when his rooms were read, and whether bob recovers.
    let cases = [
        ("archive", true, false),
        ("archive", false, true),
        ("leave", true, false),
        ("leave", false, true),
        ("join", false, false),
        ("join", true, true),
    ];
    for (number, (act, is_in, recovers)) in cases.into_iter().enumerate() {
        let room: RoomName = format!("tea{number}").parse().unwrap();
        let new = NewRoom { name: room.clone(), owner: alice.clone(), settings: Settings::default() };
        directory.create(new, 100, Box::new(|_| {})).await.unwrap();
        let enter = async || drop(directory.add(&room, &bob, 100, Box::new(|_| {})).await.unwrap());
        if act != "join" {
            enter().await;
        }
        let after = journal.offset().await.unwrap();
        match act {
            "archive" => directory.archive(&room, &alice, Box::new(|_| {})).await.unwrap(),
            "leave" => drop(directory.leave(&room, &bob, Box::new(|_| {})).await.unwrap()),
            _ => enter().await,
        }
        let rooms = if is_in { vec![room.clone()] } else { vec![] };
        let client = MissedBy { user: &bob, rooms: &rooms, socket: "x" };
        let missed = journal.missed(client, after).await.unwrap();
        assert_eq!(missed.is_some(), recovers, "{act}, in the room: {is_in}");
    }
}
