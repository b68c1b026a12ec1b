//! Files of earlier versions of the schema.

use proto::{RoomName, Username, event::Settings};

use super::*;
use crate::{
    directory::{NewRoom, shorthand::Shorthand},
    history::MissedBy,
};

/// The version before the column `settings`.
const OLD: usize = 6;

#[actix_rt::test]
async fn rooms_without_the_column_of_settings_keep_their_rows_and_damage_stays_visible() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("chat.sqlite3");
    let old = Database::open(&path, Options::new(&MIGRATIONS[..OLD])).unwrap();
    let insert = "INSERT INTO rooms (name, private, ephemeral, sum) VALUES
        ('short', 0, 1, row_sum('short', 0, 1, 0, 0, 0)),
        ('damaged', 0, 0, row_sum('damaged', 1, 0, 0, 0, 0))";
    old.write(move |conn| conn.execute(insert, [])).await.unwrap();
    old.close();
    drop(old);

    let store = SqliteStore::open(&path).unwrap();
    let found = async |name: &str| store.directory().find(&name.parse().unwrap()).await;
    let settings = found("short").await.unwrap().unwrap().room_info.settings;
    assert_eq!((settings.private, settings.ephemeral), (false, true));
    assert_eq!(found("lobby").await.unwrap().unwrap().room_info, crate::directory::RoomInfo::lobby());
    assert!(matches!(found("damaged").await, Err(Error::Damaged(_))));
    let findings = |conn: &rusqlite::Connection| {
        let queries = CHECKS.iter().map(|check| check.sql);
        let found = queries.map(|sql| {
            let mut statement = conn.prepare(sql)?;
            statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()
        });
        found.collect::<rusqlite::Result<Vec<_>>>()
    };
    let findings = store.database().read(findings).await.unwrap().concat();
    assert_eq!(findings, ["the room damaged has a wrong checksum"]);
}

#[actix_rt::test]
async fn the_checksum_of_a_room_covers_its_settings() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("chat.sqlite3");
    let store = SqliteStore::open(&path).unwrap();
    let damage = "UPDATE rooms SET settings = '{\"private\":1}'";
    store.database().write(move |conn| conn.execute(damage, [])).await.unwrap();
    let found = store.directory().find(&"lobby".parse().unwrap()).await;
    assert!(matches!(found, Err(Error::Damaged(_))), "{found:?}");
}

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

/// Another program deletes the newest rows while the server runs, or while it does not. A number is never given twice: writes are refused
/// until the restart, which begins another epoch.
#[actix_rt::test]
async fn newest_rows_that_another_program_deletes_begin_a_new_epoch() {
    let deletions = [
        ("DELETE FROM messages", true),
        ("DELETE FROM messages WHERE seq = 3", true),
        ("DELETE FROM messages WHERE seq = 2", false),
        ("DELETE FROM changes", false),
    ];
    for while_running in [true, false] {
        for (deletion, is_cut) in deletions {
            let what = format!("{deletion}, while the server runs: {while_running}");
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("chat.sqlite3");
            let (lobby, alice) = (RoomName::lobby(), "alice".parse::<Username>().unwrap());
            let store = SqliteStore::open(&path).unwrap();
            let settings = Settings::default();
            let tea = NewRoom { name: "tea".parse().unwrap(), owner: alice.clone(), settings };
            store.directory().create(tea, 10, Box::new(|_| {})).await.unwrap();
            let post = async |store: &SqliteStore, head: u64| {
                let draft = crate::history::Draft {
                    id: format!("id{head}"),
                    author: alice.clone(),
                    text: crate::Text::parse("hi".to_owned(), 100).unwrap(),
                    client_id: None,
                    timestamp: proto::Timestamp(7),
                    origin: None,
                };
                store.history().append(&lobby, head, [draft].into(), Box::new(|_| {})).await
            };
            for head in 0..3 {
                post(&store, head).await.unwrap();
            }
            let epoch = store.journal().epoch().await.unwrap();
            let delete = || {
                let other = rusqlite::Connection::open(&path).unwrap();
                other.execute_batch(deletion).unwrap();
            };
            if while_running {
                delete();
                let refused = post(&store, 3).await;
                assert_eq!(matches!(refused, Err(Error::Damaged(_))), is_cut, "{what}: {refused:?}");
                assert_eq!(store.not_ready_reason().await.is_some(), is_cut, "{what}");
            }
            store.database().close();
            drop(store);
            if !while_running {
                delete();
            }
            let store = SqliteStore::open(&path).unwrap();
            assert_eq!(store.journal().epoch().await.unwrap() != epoch, is_cut, "{what}");
            let head = store.history().head(&lobby).await.unwrap().seq;
            post(&store, head).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        }
    }
}
