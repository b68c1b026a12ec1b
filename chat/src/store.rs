//! The chat's SQLite file: its schema, opened once. The binary opens it and hands its parts to [`crate::start`].

pub mod mongo;

use std::{path::Path, sync::Arc};

use embedded::{Database, Options};

use crate::{
    Error,
    directory::{Directory, sqlite::SqliteDirectory},
    history::{History, Journal, sqlite::SqliteHistory},
    tickets::{Tickets, sqlite::SqliteTickets},
};

/// The schema, one step per version. A released step never changes.
///
/// `author` and `user` compare without regard to ASCII case, which is what makes a username unique. `messages.offset` is the
/// log's offset; `AUTOINCREMENT` keeps it from being used again after a room was trimmed. `messages.origin` is the socket that
/// a message came from, which does not get it when it comes back. `rooms.trimmed` is the last offset that a room has forgotten.
/// `messages.sum` is the row's checksum; a row of an earlier release has none.
/// `members.added_by` is null for members who made or entered the room themselves. `departures` are those who have left a room into
/// which they were added. `rooms.base` is the last number that an earlier room of the same name has given to a message.
pub const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
    INSERT INTO meta VALUES ('epoch', lower(hex(randomblob(8))));

    CREATE TABLE rooms (
        name TEXT PRIMARY KEY,
        private INTEGER NOT NULL,
        ephemeral INTEGER NOT NULL,
        archived INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    INSERT INTO rooms (name, private, ephemeral) VALUES ('lobby', 0, 0);

    CREATE TABLE members (
        place INTEGER PRIMARY KEY AUTOINCREMENT,
        room TEXT NOT NULL REFERENCES rooms (name),
        user TEXT NOT NULL COLLATE NOCASE,
        owner INTEGER NOT NULL,
        UNIQUE (room, user)
    ) STRICT;
    CREATE INDEX members_by_user ON members (user);

    CREATE TABLE messages (
        \"offset\" INTEGER PRIMARY KEY AUTOINCREMENT,
        room TEXT NOT NULL,
        seq INTEGER NOT NULL,
        id TEXT NOT NULL,
        author TEXT NOT NULL COLLATE NOCASE,
        client_id TEXT,
        text TEXT NOT NULL,
        timestamp INTEGER NOT NULL,
        UNIQUE (room, seq),
        UNIQUE (room, author, client_id)
    ) STRICT;
",
    "
    ALTER TABLE messages ADD COLUMN origin TEXT;
    ALTER TABLE rooms ADD COLUMN trimmed INTEGER NOT NULL DEFAULT 0;

    CREATE TABLE tickets (
        pid TEXT PRIMARY KEY,
        sid TEXT NOT NULL,
        user TEXT NOT NULL,
        since INTEGER NOT NULL,
        issued INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX tickets_by_age ON tickets (issued);
",
    "ALTER TABLE messages ADD COLUMN sum INTEGER",
    "
    ALTER TABLE members ADD COLUMN added_by TEXT COLLATE NOCASE;
    CREATE INDEX members_by_adder ON members (added_by) WHERE added_by IS NOT NULL;
    CREATE TABLE departures (
        room TEXT NOT NULL,
        user TEXT NOT NULL COLLATE NOCASE,
        adder TEXT NOT NULL COLLATE NOCASE,
        at INTEGER NOT NULL,
        PRIMARY KEY (user, room)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX departures_by_age ON departures (at);
    ALTER TABLE rooms ADD COLUMN base INTEGER NOT NULL DEFAULT 0;
",
];

/// What is done to a file that has lost its end, and to a copy: earlier offsets are of another epoch, and no client recovers.
pub const RENEWAL: &[&str] =
    &["UPDATE meta SET value = lower(hex(randomblob(8))) WHERE key = 'epoch'", "DELETE FROM tickets"];

/// What is done where a loss was accepted: a message that is not what was written keeps its place, and its text is U+FFFD.
const REPAIR: &[&str] = &[concat!(
    "UPDATE messages SET text = char(65533),",
    " sum = row_sum(room, seq, id, author, client_id, char(65533), timestamp, origin)",
    " WHERE sum <> row_sum(room, seq, id, author, client_id, text, timestamp, origin)"
)];

/// Queries that find what is wrong with the file; each row of an answer is a sentence.
pub const CHECKS: &[&str] = &[
    "SELECT 'message ' || seq || ' of the room ' || room || ' has a wrong checksum' FROM messages
     WHERE sum <> row_sum(room, seq, id, author, client_id, text, timestamp, origin)",
    "SELECT 'the room ' || room || ' has ' || count(*) || ' messages from ' || min(seq) || ' to ' || max(seq) FROM messages
     GROUP BY room HAVING max(seq) - min(seq) + 1 <> count(*)",
    "SELECT 'the room ' || room || ' begins at message ' || min(seq) FROM messages LEFT JOIN rooms ON name = room
     WHERE coalesce(trimmed, 0) = 0 GROUP BY room HAVING min(seq) <> coalesce(max(base), 0) + 1",
    "SELECT 'messages are in ' || room || ', which is no room' FROM (SELECT DISTINCT room FROM messages)
     WHERE room NOT IN (SELECT name FROM rooms)",
    "SELECT 'a message has offset ' || top || ', and the last one that was given is ' || given
     FROM (SELECT coalesce(max(\"offset\"), 0) AS top FROM messages),
          (SELECT coalesce(max(seq), 0) AS given FROM sqlite_sequence WHERE name = 'messages')
     WHERE top > given",
];

/// The same with the file of users attached as `people`.
pub const CHECKS_WITH_USERS: &[&str] = &[
    "SELECT 'messages are from ' || author || ', who is no user' FROM (SELECT DISTINCT author FROM messages)
     WHERE lower(author) NOT IN (SELECT key FROM people.users)",
    "SELECT user || ' is a member of ' || room || ' and no user' FROM members
     WHERE lower(user) NOT IN (SELECT key FROM people.users)",
];

/// The open file. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    database: Database,
}

impl Store {
    /// Opens or creates the file at `path`.
    ///
    /// # Errors
    /// [`Error::Store`] when another process holds it, it is of a newer version, or the disk says no; the text names the path.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::open_with(path, false)
    }

    /// Opens the file, also one that has lost committed data if that is accepted; its log then begins a new epoch.
    ///
    /// # Errors
    /// See [`Store::open`].
    pub fn open_with(path: &Path, accept_loss: bool) -> Result<Self, Error> {
        let options = Options { renewal: RENEWAL, repair: REPAIR, accept_loss, ..Options::new(MIGRATIONS) };
        Ok(Self { database: Database::open(path, options)? })
    }

    /// What was said.
    pub fn history(&self) -> Arc<dyn History> {
        Arc::new(self.messages())
    }

    /// The order in which it was said.
    pub fn journal(&self) -> Arc<dyn Journal> {
        Arc::new(self.messages())
    }

    pub(crate) fn messages(&self) -> SqliteHistory {
        SqliteHistory::new(self.database.clone())
    }

    /// Who may come back.
    pub fn tickets(&self) -> Arc<dyn Tickets> {
        Arc::new(SqliteTickets::new(self.database.clone()))
    }

    /// Rooms and members.
    pub fn directory(&self) -> Arc<dyn Directory> {
        Arc::new(SqliteDirectory::new(self.database.clone()))
    }

    /// What keeps the store from working, see [`embedded::Database::obstacle`]. For `/readyz`.
    pub async fn obstacle(&self) -> Option<&'static str> {
        self.database.obstacle().await
    }

    /// The open file: to close it, or to keep several together.
    pub fn database(&self) -> &Database {
        &self.database
    }
}
