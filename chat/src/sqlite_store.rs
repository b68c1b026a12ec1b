//! The chat's SQLite file: its schema, opened once. The binary opens it and hands its parts to [`crate::start`].

use std::{path::Path, sync::Arc};

use embedded::{Check, Database, Options};

use crate::{
    Error,
    directory::{Directory, sqlite::SqliteDirectory},
    history::{History, Journal, sqlite::SqliteHistory},
    recovery_sessions::{RecoverySessions, sqlite::SqliteRecoverySessions},
};

/// The schema, one step per version. A released step never changes.
///
/// `author` and `user` compare without regard to ASCII case, which is what makes a username unique. `messages.offset` is the
/// log's offset; `AUTOINCREMENT` keeps it from being used again after a room was trimmed. `messages.origin` is the socket that
/// a message came from, which does not get it when it comes back. `rooms.trimmed` is the last offset that a room has forgotten.
/// `sum` is a row's checksum; messages of an earlier release have none.
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

    CREATE TABLE recovery_sessions (
        pid TEXT PRIMARY KEY,
        sid TEXT NOT NULL,
        user TEXT NOT NULL,
        since INTEGER NOT NULL,
        issued INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX tickets_by_age ON recovery_sessions (issued);
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
    "
    ALTER TABLE rooms ADD COLUMN sum INTEGER;
    UPDATE rooms SET sum = row_sum(name, private, ephemeral, archived, trimmed, base);
    ALTER TABLE members ADD COLUMN sum INTEGER;
    UPDATE members SET sum = row_sum(room, user, owner, added_by);
    ALTER TABLE departures ADD COLUMN sum INTEGER;
    UPDATE departures SET sum = row_sum(room, user, adder, at);
    ALTER TABLE recovery_sessions ADD COLUMN sum INTEGER;
    UPDATE recovery_sessions SET sum = row_sum(pid, sid, user, since, issued);
    ALTER TABLE meta ADD COLUMN sum INTEGER;
    UPDATE meta SET sum = row_sum(key, value);
",
];

/// What is done to a file that has lost its end, and to a copy: earlier offsets are of another epoch, and no client recovers.
const RENEWAL: &[&str] = &[
    "INSERT INTO meta (key, value) VALUES ('epoch', lower(hex(randomblob(8))))
     ON CONFLICT (key) DO UPDATE SET value = excluded.value",
    "UPDATE meta SET sum = row_sum(key, value)",
    "DELETE FROM recovery_sessions",
];

/// What is done where a loss was accepted. A message that is not what was written keeps its place, and its text is U+FFFD. A room
/// becomes private, unless it is the lobby, and keeps its messages; members whose row is damaged are members no more.
const REPAIR: &[&str] = &[
    "UPDATE messages SET text = char(65533),
        sum = row_sum(room, seq, id, author, client_id, char(65533), timestamp, origin)
     WHERE sum <> row_sum(room, seq, id, author, client_id, text, timestamp, origin)",
    "UPDATE rooms SET private = (name <> 'lobby'), ephemeral = 0,
        sum = row_sum(name, name <> 'lobby', 0, archived, trimmed, base)
     WHERE sum <> row_sum(name, private, ephemeral, archived, trimmed, base)",
    "DELETE FROM members WHERE sum <> row_sum(room, user, owner, added_by)",
    "DELETE FROM departures WHERE sum <> row_sum(room, user, adder, at)",
];

/// Queries that find what is wrong with the file.
pub const CHECKS: &[Check] = &[
    Check {
        since: 3,
        sql: "SELECT 'message ' || seq || ' of the room ' || room || ' has a wrong checksum' FROM messages
              WHERE sum <> row_sum(room, seq, id, author, client_id, text, timestamp, origin)",
    },
    Check {
        since: 1,
        sql: "SELECT 'the room ' || room || ' has ' || count(*) || ' messages from ' || min(seq) || ' to ' || max(seq)
              FROM messages GROUP BY room HAVING max(seq) - min(seq) + 1 <> count(*)",
    },
    Check {
        since: 4,
        sql: "SELECT 'the room ' || room || ' begins at message ' || min(seq) FROM messages LEFT JOIN rooms ON name = room
              WHERE coalesce(trimmed, 0) = 0 GROUP BY room HAVING min(seq) <> coalesce(max(base), 0) + 1",
    },
    Check {
        since: 1,
        sql: "SELECT 'messages are in ' || room || ', which is no room' FROM (SELECT DISTINCT room FROM messages)
              WHERE room NOT IN (SELECT name FROM rooms)",
    },
    Check {
        since: 1,
        sql: "SELECT 'a message has offset ' || top || ', and the last one that was given is ' || given
              FROM (SELECT coalesce(max(\"offset\"), 0) AS top FROM messages),
                   (SELECT coalesce(max(seq), 0) AS given FROM sqlite_sequence WHERE name = 'messages')
              WHERE top > given",
    },
    Check {
        since: 5,
        sql: "SELECT 'the room ' || name || ' has a wrong checksum' FROM rooms
              WHERE sum <> row_sum(name, private, ephemeral, archived, trimmed, base)",
    },
    Check {
        since: 5,
        sql: "SELECT 'the member ' || user || ' of ' || room || ' has a wrong checksum' FROM members
              WHERE sum <> row_sum(room, user, owner, added_by)",
    },
    Check {
        since: 5,
        sql: "SELECT 'a departure of ' || user || ' has a wrong checksum' FROM departures
              WHERE sum <> row_sum(room, user, adder, at)",
    },
    Check {
        since: 5,
        sql: "SELECT 'a recovery_session of ' || user || ' has a wrong checksum' FROM recovery_sessions
              WHERE sum <> row_sum(pid, sid, user, since, issued)",
    },
    Check {
        since: 5,
        sql: "SELECT 'the log''s epoch is damaged' WHERE NOT EXISTS
              (SELECT 1 FROM meta WHERE key = 'epoch' AND (sum <> row_sum(key, value)) IS NOT 1)",
    },
];

/// The same with the file of users attached as `user_lookup`.
pub const CHECKS_WITH_USERS: &[Check] = &[
    Check {
        since: 1,
        sql: "SELECT 'messages are from ' || author || ', who is no user' FROM (SELECT DISTINCT author FROM messages)
              WHERE lower(author) NOT IN (SELECT key FROM user_lookup.users)",
    },
    Check {
        since: 1,
        sql: "SELECT user || ' is a member of ' || room || ' and no user' FROM members
              WHERE lower(user) NOT IN (SELECT key FROM user_lookup.users)",
    },
];

/// The open file. Cheap to clone.
#[derive(Clone)]
pub struct SqliteStore {
    database: Database,
}

impl SqliteStore {
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
    /// See [`SqliteStore::open`].
    pub fn open_with(path: &Path, accept_loss: bool) -> Result<Self, Error> {
        let options = Options { renewal: RENEWAL, repair: REPAIR, accept_loss, ..Options::new(MIGRATIONS) };
        Ok(Self { database: Database::open(path, options)? })
    }

    /// Opens a copy of a file. Its log begins a new epoch.
    ///
    /// # Errors
    /// See [`SqliteStore::open`].
    pub fn open_copy(path: &Path) -> Result<Self, Error> {
        let options = Options { renewal: RENEWAL, renew: true, ..Options::new(MIGRATIONS) };
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
    pub fn recovery_sessions(&self) -> Arc<dyn RecoverySessions> {
        Arc::new(SqliteRecoverySessions::new(self.database.clone()))
    }

    /// Rooms and members.
    pub fn directory(&self) -> Arc<dyn Directory> {
        Arc::new(SqliteDirectory::new(self.database.clone()))
    }

    /// What keeps the store from working, see [`embedded::Database::obstacle`]. For `/readyz`.
    pub async fn not_ready_reason(&self) -> Option<&'static str> {
        self.database.not_ready_reason().await
    }

    /// The open file: to close it, or to keep several together.
    pub fn database(&self) -> &Database {
        &self.database
    }
}
