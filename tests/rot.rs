//! Bit rot in the files of the embedded store: data with a flipped bit is read correctly, is an error, or is missing and reported by `check`;
//! and no name becomes free for another user.

use std::{
    collections::BTreeSet,
    fmt::Debug,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use accounts::{Creation, SqliteUsers, Users};
use chat::{
    directory::{Additions, Limits, NewRoom, Request},
    history::Draft,
    recovery_sessions::RecoverySession,
};
use embedded::Snapshot;
use proto::{RoomName, Timestamp, Username, event::Settings};
use sessions::{Sessions, SqliteSessions, Token};
use tempfile::TempDir;

const ROOMS: [&str; 3] = ["lobby", "vault", "salon"];
const USERS: [&str; 3] = ["Alice", "bob", "Carol"];

/// The content of a store. A read that fails is counted in `errors`.
#[derive(Default)]
struct Answers {
    facts: BTreeSet<String>,
    errors: usize,
}

impl Answers {
    fn add<T: Debug, E>(&mut self, of: &str, found: Result<impl IntoIterator<Item = T>, E>) {
        match found {
            Ok(found) => self.facts.extend(found.into_iter().map(|fact| format!("{of}: {fact:?}"))),
            Err(_) => self.errors += 1,
        }
    }
}

fn user(name: &str) -> Username {
    name.parse().expect("a name")
}

fn room(name: &str) -> RoomName {
    name.parse().expect("a name")
}

fn chat_file(directory: &Path) -> PathBuf {
    directory.join("chat.sqlite3")
}

/// Rooms, members, messages, a departure and recovery sessions.
async fn create_chat(directory: &Path) {
    let store = chat::SqliteStore::open(&chat_file(directory)).expect("a store");
    let rooms = store.directory();
    let none = || Box::new(drop);
    for (name, private, owner) in [("vault", true, "Alice"), ("salon", false, "bob")] {
        let new = NewRoom {
            name: room(name),
            owner: user(owner),
            settings: Settings { private, ephemeral: false },
        };
        rooms.create(new, 100, none()).await.expect("a room");
    }
    let additions = Additions { per_user: 100, per_adder: 100 };
    let limits = Limits { rooms_per_user: 100, additions };
    for name in ["bob", "Carol"] {
        let request = Request::addition(user("Alice"), user(name));
        rooms.change(&room("vault"), request, limits, none()).await.expect("a member");
    }
    let leave = Request::Leave { user: user("Carol") };
    rooms.change(&room("vault"), leave, limits, none()).await.expect("she leaves");
    for name in ROOMS {
        for number in 0..12 {
            let draft = Draft {
                id: format!("id-{name}-{number}"),
                author: user(USERS[number % 3]),
                text: chat::Text::parse(format!("the message {number} of {name}"), 8_192).expect("a text"),
                client_id: Some(format!("client-{number}").try_into().expect("an id")),
                timestamp: Timestamp::now(),
                origin: None,
            };
            let head = u64::try_from(number).expect("small");
            store
                .history()
                .append(&room(name), head, Arc::new([draft]), Box::new(|_| ()))
                .await
                .expect("stored");
        }
    }
    for name in USERS {
        let (pid, sid) = (format!("{name:0>32}"), format!("sid-{name}"));
        let session = RecoverySession { pid, sid, user: user(name), since: 3, issued: Timestamp(5) };
        store.recovery_sessions().issue(session).await.expect("a recovery session");
    }
    store.database().close();
}

async fn read_chat(directory: &Path) -> Option<Answers> {
    let store = chat::SqliteStore::open(&chat_file(directory)).ok()?;
    let mut answers = Answers::default();
    answers.add("epoch", store.journal().epoch().await.map(Some));
    for name in ROOMS {
        let found = store.directory().find(&room(name)).await.map(Option::unwrap_or_else_default);
        match found {
            Ok(entry) => {
                answers.add(name, Ok::<_, ()>(entry.0));
                answers.add(name, Ok::<_, ()>(entry.1));
            }
            Err(_) => answers.errors += 1,
        }
        answers.add(name, store.history().page(&room(name), None, None, 100).await.map(|page| page.messages));
        let since = store.history().since(&room(name), 0, 100).await;
        answers.add(name, since.map(|slice| slice.messages.into_iter().map(|stored| stored.message)));
    }
    let (rooms, alice) = (ROOMS.map(room), user("alice"));
    let client = chat::history::MissedBy { user: &alice, rooms: &rooms, socket: "unknown" };
    let missed = store.journal().missed(client, 0).await;
    answers.add("missed", missed.map(|missed| missed.into_iter().flat_map(|m| m.messages).map(|(_, m)| m)));
    for name in USERS {
        answers.add(name, store.directory().rooms_of(&user(name)).await);
        answers.add(name, store.recovery_sessions().find(&format!("{name:0>32}"), Timestamp(0)).await);
    }
    // Names that are taken stay taken.
    for name in &ROOMS[1..] {
        let new = NewRoom { name: room(name), owner: user("mallory"), settings: Settings::default() };
        let taken = store.directory().create(new, 100, Box::new(drop)).await;
        assert!(taken.is_err(), "the name {name} was assigned again: {taken:?}");
    }
    store.database().close();
    Some(answers)
}

/// The parts of a [`chat::directory::RoomRecord`].
trait Parts {
    fn unwrap_or_else_default(self) -> (Vec<String>, Vec<String>);
}

impl Parts for Option<chat::directory::RoomRecord> {
    fn unwrap_or_else_default(self) -> (Vec<String>, Vec<String>) {
        let Some(entry) = self else { return Default::default() };
        let info = format!("{:?}", entry.room_info);
        (vec![info], entry.members.iter().map(|member| format!("{member:?}")).collect())
    }
}

async fn create_users(directory: &Path) {
    let users = SqliteUsers::open(&directory.join("users.sqlite3")).expect("a store");
    for name in USERS {
        users.create(&user(name), &format!("the hash of {name}")).await.expect("a user");
    }
    users.database().close();
}

async fn read_users(directory: &Path) -> Option<Answers> {
    let users = SqliteUsers::open(&directory.join("users.sqlite3")).ok()?;
    let mut answers = Answers::default();
    for name in USERS {
        let found = users.find(&user(name).key()).await;
        answers.add(name, found.map(|found| found.map(|found| (found.username, found.hash))));
        for spelling in [name.to_owned(), name.to_uppercase()] {
            let created = users.create(&user(&spelling), "another hash").await;
            assert!(!matches!(created, Ok(Creation::Created)), "the name {name} was assigned again");
        }
    }
    users.database().close();
    Some(answers)
}

fn session_tokens() -> [Token; 3] {
    ["a", "b", "c"].map(|letter| letter.repeat(64).parse().expect("a token"))
}

fn open_sessions(directory: &Path) -> Option<SqliteSessions> {
    SqliteSessions::open(&directory.join("sessions.sqlite3"), || Timestamp(1_000_000)).ok()
}

async fn create_sessions(directory: &Path) {
    drop(open_sessions(directory).expect("a store"));
    let conn = embedded::rusqlite::Connection::open(directory.join("sessions.sqlite3")).expect("a store");
    for (token, name) in session_tokens().iter().zip(USERS) {
        let id = token.id();
        // Only the store's own connections have the checksum function, so the checksums are written after the next start.
        let values = (id.as_str(), name.to_lowercase(), name);
        conn.execute(
            "INSERT INTO sessions (id, user, username, issued_at) VALUES (?1, ?2, ?3, 999999)",
            values,
        )
        .expect("a session");
    }
    drop(conn);
    let sessions = open_sessions(directory).expect("a store");
    let seal = "UPDATE sessions SET sum = row_sum(id, user, username, issued_at)";
    sessions.database().write(move |conn| conn.execute(seal, [])).await.expect("sealed");
    sessions.database().close();
}

async fn read_sessions(directory: &Path) -> Option<Answers> {
    let sessions = open_sessions(directory)?;
    let mut answers = Answers::default();
    for token in session_tokens() {
        let found = sessions.find(&token).await;
        let of = token.id();
        answers
            .add(of.as_str(), found.map(|found| found.map(|session| (session.username, session.issued_at))));
    }
    sessions.database().close();
    Some(answers)
}

/// `count` positions of bytes that are not zero.
fn positions(bytes: &[u8], count: usize) -> Vec<usize> {
    let used: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
    used.iter().copied().step_by((used.len() / count).max(1)).collect()
}

/// Flips bits of a file, one at a time, and compares the content that is read with the content that was written.
async fn check_flips<R: Future<Output = Option<Answers>>>(
    whole: &Path,
    file: &str,
    flips: usize,
    checks: &[embedded::Check],
    reads: impl Fn(PathBuf) -> R,
) {
    // A copy of a store begins a new history. A store of an older release, which has no record of its files, does not.
    let store = embedded::rusqlite::Connection::open(whole.join(file)).expect("a store");
    store.execute("DELETE FROM store_state WHERE key = 'files'", []).expect("a note");
    drop(store);
    let bytes = fs::read(whole.join(file)).expect("a file");
    let at = |number: usize| {
        let directory = TempDir::new().expect("a temporary directory");
        let mut bytes = bytes.clone();
        if let Some(at) = positions(&bytes, flips).get(number) {
            bytes[*at] ^= 1 << (number % 8);
        }
        fs::write(directory.path().join(file), bytes).expect("a copy");
        directory
    };
    let expected = {
        let directory = at(usize::MAX);
        reads(directory.path().to_owned()).await.expect("a readable store").facts
    };
    assert!(!expected.is_empty());
    let (mut detected, all) = (0, positions(&bytes, flips));
    for (number, place) in all.iter().enumerate() {
        let directory = at(number);
        let findings = Snapshot::open(&directory.path().join(file)).and_then(|file| file.findings(checks));
        let is_found = findings.is_err() || findings.is_ok_and(|findings| !findings.is_empty());
        let Some(answers) = reads(directory.path().to_owned()).await else {
            detected += 1;
            continue;
        };
        // A flipped bit of the last offset is a loss of the newest rows, which begins a new epoch. Clients then load everything anew.
        let is_renewal = |fact: &String| is_found && fact.starts_with("epoch: ");
        let wrong: Vec<_> = answers.facts.difference(&expected).filter(|fact| !is_renewal(fact)).collect();
        assert!(wrong.is_empty(), "{file}, byte {place}, bit {}: {wrong:?}", number % 8);
        let missing: Vec<_> = expected.difference(&answers.facts).collect();
        assert!(
            missing.is_empty() || answers.errors > 0 || is_found,
            "{file}, byte {place}, bit {}: missing without an error: {missing:?}",
            number % 8
        );
        detected += usize::from(is_found || answers.errors > 0);
    }
    assert!(detected * 2 > all.len(), "{file}: only {detected} of {} flips were detected", all.len());
}

#[tokio::test]
async fn a_flipped_bit_is_never_read_as_valid_data_and_frees_no_name() {
    let whole = TempDir::new().expect("a temporary directory");
    create_chat(whole.path()).await;
    create_users(whole.path()).await;
    create_sessions(whole.path()).await;
    let reads = |at: PathBuf| async move { read_users(&at).await };
    check_flips(whole.path(), "users.sqlite3", 80, SqliteUsers::CHECKS, reads).await;
    let reads = |at: PathBuf| async move { read_sessions(&at).await };
    check_flips(whole.path(), "sessions.sqlite3", 60, SqliteSessions::CHECKS, reads).await;
    let reads = |at: PathBuf| async move { read_chat(&at).await };
    check_flips(whole.path(), "chat.sqlite3", 240, chat::sqlite_store::CHECKS, reads).await;
}
