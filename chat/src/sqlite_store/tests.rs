//! Files of earlier versions of the schema.

use super::*;

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
