//! Damaged and older files: what the tools report of them, and what a server serves.

use std::{
    fs::{self, File},
    os::unix::fs::{FileExt, PermissionsExt},
    path::Path,
};

use serde_json::json;

use super::{FILES, copy, names, not_ready_reason, stopped, text, tool};
use crate::support::TestServer;

/// Converts the files to the format of a release without checksums.
fn downgrade(data: &Path) {
    let additions =
        "DROP INDEX members_by_adder; ALTER TABLE members DROP COLUMN added_by; DROP TABLE departures;
         ALTER TABLE rooms DROP COLUMN base; ALTER TABLE rooms DROP COLUMN sum; ALTER TABLE rooms DROP COLUMN settings; ALTER TABLE members DROP COLUMN sum;
         ALTER TABLE tickets DROP COLUMN sum; ALTER TABLE meta DROP COLUMN sum;
         DROP TABLE changes; DROP TABLE revs;";
    for (file, table, version, later) in [
        (FILES[0], "users", 1, "DROP INDEX users_by_name;"),
        (FILES[1], "sessions", 1, ""),
        (FILES[2], "messages", 2, additions),
    ] {
        let conn = rusqlite::Connection::open(data.join(file)).expect("a store");
        let sql = format!(
            "PRAGMA journal_mode = DELETE; ALTER TABLE {table} DROP COLUMN sum; DROP TABLE store_state; {later}
             PRAGMA user_version = {version}; PRAGMA journal_mode = WAL;"
        );
        conn.execute_batch(&sql).expect("a change");
    }
}

/// Flips one bit of the text of a message.
fn flip_bit(data: &Path) {
    let path = data.join(FILES[2]);
    let bytes = fs::read(&path).expect("a file");
    let needle = b"to be found in the file: 7";
    let at = bytes.windows(needle.len()).position(|window| window == needle).expect("the text in the file");
    let file = File::options().write(true).open(&path).expect("a file");
    file.write_all_at(&[bytes[at] ^ 4], at as u64).expect("a byte");
}

/// The name of the case, the change of the data, shell code before the tool, what `backup` and `check` print (nothing on success).
type Case = (&'static str, fn(&Path), &'static str, &'static str, &'static str);

#[tokio::test]
async fn the_tools_report_their_findings_and_leave_no_partial_result() {
    let (root, whole) = stopped().await;
    let cases: [Case; 9] = [
        ("whole", |_| (), "", "", ""),
        ("of an earlier release", downgrade, "", "", ""),
        (
            "no store",
            |data| FILES.iter().for_each(|file| fs::remove_file(data.join(file)).expect("a file")),
            "",
            "chat.sqlite3",
            "no store",
        ),
        ("foreign files", |data| fs::write(data.join("notes.txt"), "x").expect("a file"), "", "", ""),
        (
            "a file removed",
            |data| fs::remove_file(data.join(FILES[0])).expect("a file"),
            "",
            "users.sqlite3",
            "users.sqlite3",
        ),
        (
            "a file of zeros",
            |data| fs::write(data.join(FILES[2]), [0; 4096]).expect("a file"),
            "",
            "chat.sqlite3",
            "chat.sqlite3",
        ),
        ("a flipped bit", flip_bit, "", "wrong checksum", "message 7 of the room lobby has a wrong checksum"),
        (
            "source read-only",
            |data| {
                fs::set_permissions(data, fs::Permissions::from_mode(0o500)).expect("a change");
            },
            "",
            "",
            "",
        ),
        ("target full", |_| (), "ulimit -f 8; trap '' XFSZ;", "no backup was made", ""),
    ];
    for (number, case) in cases.into_iter().enumerate() {
        let (data, to) =
            (root.path().join(format!("data-{number}")), root.path().join(format!("to-{number}")));
        copy(&whole, &data);
        check_case(case, &data, &to);
    }
}

/// One row of the table: `backup` and `check` on `data`.
fn check_case((what, change, before, backup, check): Case, data: &Path, to: &Path) {
    change(data);
    let before_names = names(data);
    let made = tool(before, &["backup", to.to_str().expect("a UTF-8 path")], data);
    assert_eq!(made.status.code(), Some(i32::from(!backup.is_empty())), "{what}: {}", text(&made));
    assert!(text(&made).contains(backup), "{what}: {}", text(&made));
    assert_eq!(to.exists(), backup.is_empty(), "{what}");
    let beside = names(to.parent().expect("a directory"));
    assert!(!beside.iter().any(|name| name.contains("partial")), "{what}: a partial backup: {beside:?}");
    let checked = tool("", &["check"], data);
    assert_eq!(names(data), before_names, "{what}: the tools created files in the source");
    assert_eq!(checked.status.code(), Some(i32::from(!check.is_empty())), "{what}: {}", text(&checked));
    assert!(text(&checked).contains(check), "{what}: {}", text(&checked));
    if backup.is_empty() {
        assert!(tool("", &["check"], to).status.success(), "{what}: the copy");
        let again = tool("", &["backup", to.to_str().expect("a UTF-8 path")], data);
        assert!(!again.status.success() && text(&again).contains("not empty"), "{what}: {}", text(&again));
    }
}

#[tokio::test]
async fn a_damaged_text_is_never_served_and_its_loss_can_be_accepted() {
    let mut server = TestServer::start().await;
    let mut alice = server.connected_user("alice").await;
    for number in 1..=9 {
        alice
            .send_message_to(
                "lobby",
                &format!("a text that is long enough to be found in the file: {number}"),
            )
            .await;
    }
    let data = server.system.data_dir();
    assert!(server.system.stop().await.success());
    flip_bit(&data);
    server.system.restart().await;
    let page = alice.user.get("/rooms/lobby/messages").await;
    assert_eq!(page.status, 503, "{page:?}");
    assert!(page.body.contains("godzilla check"), "{page:?}");
    let reason = not_ready_reason(&server).await;
    assert!(reason.contains("chat has damaged content"), "{reason}");
    assert!(server.system.stop().await.success());
    let accepted = tool("", &["check", "--accept-loss"], &data);
    assert!(accepted.status.success(), "{}", text(&accepted));
    server.system.restart().await;
    alice.user.get("/user/me").await.expect_refusal(401);
    alice.user.log_in().await;
    let stored = alice.user.read_history("lobby").await;
    assert_eq!((stored.len(), &stored[6]["data"]["text"]), (9, &json!("\u{FFFD}")));
}

/// The tools must not let SQLite truncate a damaged write-ahead log: the next start would continue without its end and assign numbers
/// twice.
#[tokio::test]
async fn the_tools_do_not_change_a_damaged_write_ahead_log() {
    let mut server = TestServer::start().await;
    let mut alice = server.connected_user("alice").await;
    for number in 1..=15 {
        alice.send_message(&format!("stored {number}")).await;
    }
    server.system.kill();
    let data = server.system.data_dir();
    let log = data.join("chat.sqlite3-wal");
    let end = fs::metadata(&log).expect("a log").len() - 9;
    let file = File::options().read(true).write(true).open(&log).expect("a log");
    let mut byte = [0];
    file.read_exact_at(&mut byte, end).expect("a byte");
    file.write_all_at(&[byte[0] ^ 1], end).expect("a byte");
    let to = data.with_file_name("copy");
    for round in 1..=2 {
        let checked = tool("", &["check"], &data);
        assert!(
            !checked.status.success() && text(&checked).contains("chat.sqlite3"),
            "{round}: {}",
            text(&checked)
        );
        let made = tool("", &["backup", to.to_str().expect("a UTF-8 path")], &data);
        assert!(!made.status.success() && text(&made).contains("damaged"), "{round}: {}", text(&made));
        assert!(!to.exists());
    }
}
