//! The embedded store of a process: three SQLite files in one directory, opened together. Used by `serve` and `seed`.

use std::{path::Path, sync::Arc};

use accounts::{SqliteUsers, Users};
use proto::{RoomName, Timestamp};
use sessions::{SessionId, Sessions, SqliteSessions};

use crate::{
    admin::{Probe, unless},
    config,
    error::Error,
};

/// The open files.
pub struct Stores {
    /// Who people are.
    pub users: Arc<SqliteUsers>,
    /// Who is logged in.
    pub sessions: Arc<SqliteSessions>,
    /// What people said.
    pub chat: chat::Store,
}

impl Stores {
    /// Opens or creates the files. Blocks; call it at start.
    pub fn open(config: &config::Store) -> Result<Self, Error> {
        let path = |name: &str| config.data_dir.join(name);
        let users = SqliteUsers::open(&path("users.sqlite3")).map_err(unusable(&config.data_dir))?;
        let sessions = SqliteSessions::open(&path("sessions.sqlite3"), Timestamp::now)
            .map_err(unusable(&config.data_dir))?;
        let chat = chat::Store::open(&path("chat.sqlite3")).map_err(unusable(&config.data_dir))?;
        Ok(Self { users: Arc::new(users), sessions: Arc::new(sessions), chat })
    }

    /// For `/readyz`: each store answers a question, and none has stopped writing.
    pub fn probes(&self) -> Vec<(&'static str, Probe)> {
        let (users, sessions, chat) = (self.users.clone(), self.sessions.clone(), self.chat.clone());
        let nobody: SessionId = "0".repeat(64).parse().expect("64 zeros are a session id");
        vec![
            (
                "users",
                Box::new(move || {
                    let users = users.clone();
                    Box::pin(
                        async move { unless(users.takes_writes().await && users.find("").await.is_ok()) },
                    )
                }),
            ),
            (
                "sessions",
                Box::new(move || {
                    let (sessions, nobody) = (sessions.clone(), nobody.clone());
                    Box::pin(async move {
                        unless(sessions.takes_writes().await && sessions.is_live(&nobody).await.is_ok())
                    })
                }),
            ),
            (
                "chat",
                Box::new(move || {
                    let chat = chat.clone();
                    let lobby = RoomName::lobby();
                    Box::pin(async move {
                        unless(chat.takes_writes().await && chat.history().head(&lobby).await.is_ok())
                    })
                }),
            ),
        ]
    }
}

/// The stores' errors name the file themselves; the flag that moves it is what is missing.
fn unusable<E: std::fmt::Display>(directory: &Path) -> impl Fn(E) -> Error {
    let path = directory.to_owned();
    move |error| Error::Store { path: path.clone(), reason: error.to_string() }
}
