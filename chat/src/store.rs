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
        Ok(Self { database: Database::open(path, Options::new(MIGRATIONS))? })
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

    /// Whether a write would succeed, see [`embedded::Database::takes_writes`]. For `/readyz`.
    pub async fn takes_writes(&self) -> bool {
        self.database.takes_writes().await
    }
}
