//! Tests of the SQLite backend: the conformance suite, restarts, and damaged files.

use std::sync::Mutex;

use tempfile::TempDir;

use super::*;
use crate::conformance::{self, ManualClock};

fn open(directory: &TempDir, clock: &ManualClock) -> SqliteSessions {
    let clock = clock.clone();
    SqliteSessions::open(&directory.path().join("sessions.sqlite3"), move || clock.now()).unwrap()
}

fn user(name: &str) -> Username {
    name.parse().unwrap()
}

async fn rows(sessions: &SqliteSessions) -> i64 {
    sessions
        .db
        .read(|conn| conn.query_row("SELECT count(*) FROM sessions", [], |row| row.get(0)))
        .await
        .unwrap()
}

#[tokio::test]
async fn conforms() {
    let directories = Mutex::new(Vec::new());
    let make = |clock: Clock| {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("sessions.sqlite3");
        directories.lock().unwrap().push(directory);
        let sessions: crate::SharedSessions = Arc::new(SqliteSessions::open(&path, move || clock()).unwrap());
        async { sessions }
    };
    conformance::run(make).await.unwrap();
}

#[tokio::test]
async fn sessions_survive_a_restart_and_the_file_contains_no_token() {
    let (directory, clock) = (TempDir::new().unwrap(), ManualClock::new());
    let sessions = open(&directory, &clock);
    let (open_one, closed) =
        (sessions.open(&user("Alice")).await.unwrap(), sessions.open(&user("bob")).await.unwrap());
    sessions.close(&closed).await.unwrap();
    drop(sessions);
    let file = std::fs::read(directory.path().join("sessions.sqlite3")).unwrap();
    for token in [&open_one, &closed] {
        assert!(!file.windows(token.reveal().len()).any(|window| window == token.reveal().as_bytes()));
    }
    let sessions = open(&directory, &clock);
    assert_eq!(sessions.find(&open_one).await.unwrap().unwrap().username, user("Alice"));
    assert_eq!(sessions.find(&closed).await.unwrap(), None);
}

#[tokio::test]
async fn expired_sessions_are_deleted_hourly_and_at_start_and_published() {
    let (directory, clock) = (TempDir::new().unwrap(), ManualClock::new());
    let sessions = open(&directory, &clock);
    let first = sessions.open(&user("alice")).await.unwrap();
    clock.advance(LIFETIME_SECONDS * 1_000 - 1);
    sessions.open(&user("bob")).await.unwrap();
    assert_eq!(rows(&sessions).await, 2, "a live session is not deleted");
    let mut closings = sessions.closings();
    clock.advance(SWEEP_MILLIS);
    sessions.open(&user("carol")).await.unwrap();
    assert_eq!(rows(&sessions).await, 2);
    assert_eq!(closings.recv().await.unwrap(), Closing::expired(first.id()));
    drop(sessions);
    clock.advance(LIFETIME_SECONDS * 1_000);
    let sessions = open(&directory, &clock);
    sessions.close(&first).await.unwrap();
    assert_eq!(rows(&sessions).await, 0);
}

#[tokio::test]
async fn expired_sessions_are_not_deleted_while_the_clock_is_not_plausible() {
    let (directory, clock) = (TempDir::new().unwrap(), ManualClock::new());
    let path = directory.path().join("sessions.sqlite3");
    let settled = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let open = || {
        let (now, at, is_settled) = (clock.clone(), clock.clone(), settled.clone());
        let settled = move || is_settled.load(Ordering::Relaxed).then(|| at.now());
        SqliteSessions::open_with(&path, move || now.now(), settled).unwrap()
    };
    let sessions = open();
    sessions.open(&user("alice")).await.unwrap();
    settled.store(false, Ordering::Relaxed);
    clock.advance(12 * 365 * LIFETIME_SECONDS * 1_000);
    sessions.open(&user("bob")).await.unwrap();
    drop(sessions);
    let sessions = open();
    sessions.open(&user("carol")).await.unwrap();
    assert_eq!(rows(&sessions).await, 3, "alice's session is kept until the clock is plausible again");
    settled.store(true, Ordering::Relaxed);
    sessions.open(&user("dave")).await.unwrap();
    assert_eq!(rows(&sessions).await, 3, "alice's session has expired");
}
