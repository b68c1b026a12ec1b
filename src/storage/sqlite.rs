//! The backend SQLite, for one process: three files in one directory, opened together. Used by `serve`, `seed`, `backup` and `check`.

pub mod backup;

use std::{
    fs::File,
    path::Path,
    sync::{Arc, mpsc::sync_channel},
    thread,
    time::Duration,
};

use accounts::SqliteUsers;
use embedded::Database;
use proto::Timestamp;
use sessions::SqliteSessions;

use super::EmbeddedStores;
use crate::{admin::Probe, error::Error};

/// How long the stores may take to close. A disk that hangs must not block the end of the process.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// The open files.
pub struct Stores {
    /// Users.
    pub users: Arc<SqliteUsers>,
    /// Sessions.
    pub sessions: Arc<SqliteSessions>,
    /// Rooms and messages.
    pub chat: chat::SqliteStore,
    /// The lock of the directory. Dropped after the files.
    _lock: File,
}

const USERS: &str = "users.sqlite3";
const SESSIONS: &str = "sessions.sqlite3";
const CHAT: &str = "chat.sqlite3";

/// Opens or creates the files in `directory`. Blocks; call it during the start.
///
/// # Errors
/// When the directory or a file in it cannot be used.
pub fn open(directory: &Path) -> Result<EmbeddedStores, Error> {
    let stores = Stores::open(directory)?;
    Ok(EmbeddedStores {
        ticket_key: stores.chat.secret(),
        users: stores.users.clone(),
        sessions: stores.sessions.clone(),
        history: stores.chat.history(),
        journal: stores.chat.journal(),
        directory: stores.chat.directory(),
        probes: stores.databases().map(|(part, database)| (part, probe(database.clone()))).into(),
        close: Box::new(move || stores.close()),
    })
}

/// Whether a store reads and writes. For `/readyz`.
fn probe(database: Database) -> Probe {
    Box::new(move || {
        let database = database.clone();
        Box::pin(async move { database.ping().await.err().map(|error| format!("does not work: {error}")) })
    })
}

impl Stores {
    /// Opens or creates the files. Blocks; call it during the start.
    ///
    /// # Errors
    /// When another process uses the directory, or when the directory or a file in it cannot be used.
    pub fn open(directory: &Path) -> Result<Self, Error> {
        let unusable = |reason: String| Error::Store { path: directory.to_owned(), reason };
        let lock = embedded::lock(directory).map_err(|error| unusable(error.to_string()))?;
        let path = |name: &str| directory.join(name);
        let (has_users, has_chat) = (path(USERS).exists(), path(CHAT).exists());
        // Anybody could register the name of a missing user, and would read the rooms of that user.
        if has_chat && !has_users {
            return Err(unusable(format!(
                "{USERS} is missing beside {CHAT}; restore both files of one backup"
            )));
        }
        let users = SqliteUsers::open(&path(USERS)).map_err(|error| unusable(error.to_string()))?;
        let chat = chat::SqliteStore::open(&path(CHAT)).map_err(|error| unusable(error.to_string()))?;
        let sessions = SqliteSessions::open(&path(SESSIONS), Timestamp::now)
            .map_err(|error| unusable(error.to_string()))?;
        if !has_users {
            tracing::info!(directory = %directory.display(), "made a new store");
        }
        Ok(Self { users: Arc::new(users), sessions: Arc::new(sessions), chat, _lock: lock })
    }

    /// The files, by the name of the part.
    fn databases(&self) -> [(&'static str, &Database); 3] {
        [
            ("users", self.users.database()),
            ("sessions", self.sessions.database()),
            ("chat", self.chat.database()),
        ]
    }

    /// Closes all files, even while parts still have handles, so that no write-ahead log remains. Blocks until queued
    /// work is done, at most [`CLOSE_TIMEOUT`].
    pub fn close(&self) {
        let databases = self.databases().map(|(_, database)| database.clone());
        let (done, closed) = sync_channel(1);
        let close = move || {
            databases.iter().for_each(Database::close);
            let _ = done.send(());
        };
        if let Err(error) = thread::Builder::new().name("close".to_owned()).spawn(close) {
            return tracing::warn!(%error, "the stores are not closed: no thread can be started");
        }
        if closed.recv_timeout(CLOSE_TIMEOUT).is_err() {
            let seconds = CLOSE_TIMEOUT.as_secs();
            tracing::warn!(seconds, "the stores did not close in time; their write-ahead logs remain");
        }
    }
}
