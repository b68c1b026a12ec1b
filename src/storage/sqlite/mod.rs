//! The backend SQLite, for one process: three files in one directory, opened together. Used by `serve`, `seed`, `backup` and `check`.

pub mod backup;
pub mod check;
mod data_dir;
mod examine;
mod group;

use std::{
    fs,
    path::Path,
    sync::{Arc, mpsc::sync_channel},
    thread,
    time::Duration,
};

use accounts::{SqliteUsers, Users};
use futures_util::{FutureExt, future::ready};
use proto::{RoomName, Timestamp};
use sessions::{SessionId, Sessions, SqliteSessions};

use super::{Backend, EmbeddedStores};
use crate::{
    admin::{Probe, not_ready_unless},
    error::Error,
};

/// The row of the table of backends.
pub const BACKEND: Backend = Backend {
    schemes: &["sqlite"],
    form: "sqlite:directory",
    open_embedded: Some(|url| open(url.directory())),
    open_shared: None,
    examine: |url, _| ready(examine::examine(url.directory())).boxed_local(),
};

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
}

/// The file names.
const FILES: [&str; 3] = [USERS, SESSIONS, CHAT];
const USERS: &str = "users.sqlite3";
const SESSIONS: &str = "sessions.sqlite3";
const CHAT: &str = "chat.sqlite3";

/// Opens or creates the files in `data_dir`. Blocks; call it during the start.
///
/// # Errors
/// When the directory or a file in it cannot be used.
pub fn open(data_dir: &Path) -> Result<EmbeddedStores, Error> {
    let stores = Stores::open(data_dir)?;
    Ok(EmbeddedStores {
        users: stores.users.clone(),
        sessions: stores.sessions.clone(),
        history: stores.chat.history(),
        journal: stores.chat.journal(),
        directory: stores.chat.directory(),
        recovery_sessions: stores.chat.recovery_sessions(),
        probes: stores.probes(),
        close: Box::new(move || stores.close()),
    })
}

impl Stores {
    /// Opens or creates the files. Blocks; call it during the start.
    pub fn open(data_dir: &Path) -> Result<Self, Error> {
        Self::open_with(data_dir, false)
    }

    /// Opens the files. With `accept_loss`, also files that have lost data.
    fn open_with(data_dir: &Path, accept_loss: bool) -> Result<Self, Error> {
        let directory = data_dir::resolve(data_dir)?;
        data_dir::make_private(data_dir, &directory)?;
        if !accept_loss {
            group::refuse_incomplete(data_dir, &directory)?;
        }
        Self::open_in(data_dir, &directory, accept_loss)
    }

    /// Opens the files in `directory`. Errors name `flag`.
    fn open_in(flag: &Path, directory: &Path, accept_loss: bool) -> Result<Self, Error> {
        let path = |name: &str| directory.join(name);
        let users = SqliteUsers::open_with(&path(USERS), accept_loss).map_err(unusable(flag))?;
        let sessions = SqliteSessions::open_with(&path(SESSIONS), accept_loss, Timestamp::now);
        let sessions = sessions.map_err(unusable(flag))?;
        let chat = chat::SqliteStore::open_with(&path(CHAT), accept_loss).map_err(unusable(flag))?;
        let this = Self { users: Arc::new(users), sessions: Arc::new(sessions), chat };
        group::join(&this, accept_loss).map_err(unusable(flag))?;
        Ok(this)
    }

    /// Probes for `/readyz`: each store can write and answers a query.
    fn probes(&self) -> Vec<(&'static str, Probe)> {
        let (users, sessions, chat) = (self.users.clone(), self.sessions.clone(), self.chat.clone());
        let absent_session: SessionId = "0".repeat(64).parse().expect("64 zeros are a session id");
        vec![
            (
                "users",
                Box::new(move || {
                    let users = users.clone();
                    Box::pin(async move {
                        let not_ready_reason = users.not_ready_reason().await;
                        not_ready_reason.or(not_ready_unless(users.find("").await.is_ok()))
                    })
                }),
            ),
            (
                "sessions",
                Box::new(move || {
                    let (sessions, absent_session) = (sessions.clone(), absent_session.clone());
                    Box::pin(async move {
                        let not_ready_reason = sessions.not_ready_reason().await;
                        not_ready_reason.or(not_ready_unless(sessions.find(&absent_session).await.is_ok()))
                    })
                }),
            ),
            (
                "chat",
                Box::new(move || {
                    let (chat, lobby) = (chat.clone(), RoomName::lobby());
                    Box::pin(async move {
                        let not_ready_reason = chat.not_ready_reason().await;
                        not_ready_reason.or(not_ready_unless(chat.history().head(&lobby).await.is_ok()))
                    })
                }),
            ),
        ]
    }

    /// Closes all files, even while parts still have handles, so that no write-ahead log remains. Blocks until queued
    /// work is done, at most [`CLOSE_TIMEOUT`].
    pub fn close(&self) {
        let (users, sessions, chat) = (self.users.clone(), self.sessions.clone(), self.chat.clone());
        let (done, closed) = sync_channel(1);
        let close = move || {
            sessions.database().close();
            users.database().close();
            chat.database().close();
            let _ = done.send(());
        };
        if let Err(error) = thread::Builder::new().name("close".to_owned()).spawn(close) {
            return tracing::warn!(%error, "the stores are not closed: no thread can be started");
        }
        if closed.recv_timeout(CLOSE_TIMEOUT).is_err() {
            tracing::warn!(
                seconds = CLOSE_TIMEOUT.as_secs(),
                "the stores did not close in time; their write-ahead logs remain"
            );
        }
    }
}

/// Whether a file of the store exists and is not empty.
fn has_content(directory: &Path, name: &str) -> bool {
    fs::metadata(directory.join(name)).is_ok_and(|about| about.len() > 0)
}

/// Adds the data directory to an error of a store, which names the file only.
fn unusable<E: std::fmt::Display>(directory: &Path) -> impl Fn(E) -> Error {
    let path = directory.to_owned();
    move |error| Error::Store { path: path.clone(), reason: error.to_string() }
}
