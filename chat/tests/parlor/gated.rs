//! A real directory with a gate: what was read of a user's rooms waits there, and the world goes on meanwhile.

use std::sync::Arc;

use async_trait::async_trait;
use chat::{
    Error,
    directory::{Card, Committed, Directory, Entry, Member, NewRoom},
};
use proto::{RoomName, Username};
use tokio::sync::Semaphore;

pub struct Gated {
    directory: Arc<dyn Directory>,
    gate: Gate,
}

/// The gate's handles: one token in `read` for each user's rooms that were read, one in `go` for each that may pass.
#[derive(Clone)]
pub struct Gate {
    /// Whose rooms wait; everybody else's pass.
    pub user: &'static str,
    pub read: Arc<Semaphore>,
    pub go: Arc<Semaphore>,
}

impl Gate {
    pub fn of(user: &'static str) -> Self {
        Self { user, read: Arc::new(Semaphore::new(0)), go: Arc::new(Semaphore::new(0)) }
    }

    pub fn before(&self, directory: Arc<dyn Directory>) -> Arc<dyn Directory> {
        Arc::new(Gated { directory, gate: self.clone() })
    }

    /// Waits until the user's rooms were read.
    pub async fn was_read(&self) {
        self.read.acquire().await.unwrap().forget();
    }

    /// Lets everything pass from now on.
    pub fn open(&self) {
        self.go.add_permits(1000);
    }
}

#[async_trait]
impl Directory for Gated {
    async fn rooms_of(&self, user: &Username) -> Result<Vec<Card>, Error> {
        let rooms = self.directory.rooms_of(user).await;
        if user.as_str() == self.gate.user {
            self.gate.read.add_permits(1);
            self.gate.go.acquire().await.unwrap().forget();
        }
        rooms
    }

    async fn create(&self, room: NewRoom, limit: usize, committed: Committed) -> Result<Card, Error> {
        self.directory.create(room, limit, committed).await
    }

    async fn find(&self, room: &RoomName) -> Result<Option<Entry>, Error> {
        self.directory.find(room).await
    }

    async fn add(
        &self,
        room: &RoomName,
        user: &Username,
        limit: usize,
        committed: Committed,
    ) -> Result<Vec<Member>, Error> {
        self.directory.add(room, user, limit, committed).await
    }

    async fn remove(
        &self,
        room: &RoomName,
        user: &Username,
        committed: Committed,
    ) -> Result<Vec<Member>, Error> {
        self.directory.remove(room, user, committed).await
    }

    async fn set_private(&self, room: &RoomName, private: bool, committed: Committed) -> Result<(), Error> {
        self.directory.set_private(room, private, committed).await
    }

    async fn archive(&self, room: &RoomName, committed: Committed) -> Result<(), Error> {
        self.directory.archive(room, committed).await
    }
}
