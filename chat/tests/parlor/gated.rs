//! A real directory with a gate: what was read of one user's rooms, or of one room, waits there, and the world goes on
//! meanwhile.

use std::sync::Arc;

use async_trait::async_trait;
use chat::{
    Error,
    directory::{Additions, Committed, Directory, Entry, Member, NewRoom, RoomInfo},
};
use proto::{RoomName, Username};
use tokio::sync::Semaphore;

pub struct Gated {
    directory: Arc<dyn Directory>,
    gate: Gate,
}

/// The gate's handles: one token in `read` for each answer that came to the gate, one in `go` for each that may pass.
#[derive(Clone)]
pub struct Gate {
    /// The user or room whose answers wait; all others pass.
    pub name: &'static str,
    pub read: Arc<Semaphore>,
    pub go: Arc<Semaphore>,
}

impl Gate {
    pub fn of(name: &'static str) -> Self {
        Self { name, read: Arc::new(Semaphore::new(0)), go: Arc::new(Semaphore::new(0)) }
    }

    pub fn before(&self, directory: Arc<dyn Directory>) -> Arc<dyn Directory> {
        Arc::new(Gated { directory, gate: self.clone() })
    }

    /// Waits until something was read.
    pub async fn was_read(&self) {
        self.read.acquire().await.unwrap().forget();
    }

    async fn pass(&self, name: &str) {
        if name == self.name {
            self.read.add_permits(1);
            self.go.acquire().await.unwrap().forget();
        }
    }

    /// Lets everything pass from now on.
    pub fn open(&self) {
        self.go.add_permits(1000);
    }
}

#[async_trait]
impl Directory for Gated {
    async fn rooms_of(&self, user: &Username) -> Result<Vec<RoomInfo>, Error> {
        let rooms = self.directory.rooms_of(user).await;
        self.gate.pass(user.as_str()).await;
        rooms
    }

    async fn create(&self, room: NewRoom, limit: usize, committed: Committed) -> Result<RoomInfo, Error> {
        self.directory.create(room, limit, committed).await
    }

    async fn find(&self, room: &RoomName) -> Result<Option<Entry>, Error> {
        let found = self.directory.find(room).await;
        self.gate.pass(room.as_str()).await;
        found
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

    async fn add_by(
        &self,
        room: &RoomName,
        user: &Username,
        by: &Username,
        limits: Additions,
        committed: Committed,
    ) -> Result<Vec<Member>, Error> {
        self.directory.add_by(room, user, by, limits, committed).await
    }

    async fn leave(
        &self,
        room: &RoomName,
        user: &Username,
        committed: Committed,
    ) -> Result<Vec<Member>, Error> {
        self.directory.leave(room, user, committed).await
    }

    async fn remove(
        &self,
        room: &RoomName,
        user: &Username,
        by: &Username,
        committed: Committed,
    ) -> Result<Vec<Member>, Error> {
        self.directory.remove(room, user, by, committed).await
    }

    async fn set_private(
        &self,
        room: &RoomName,
        by: &Username,
        private: bool,
        committed: Committed,
    ) -> Result<(), Error> {
        self.directory.set_private(room, by, private, committed).await
    }

    async fn archive(&self, room: &RoomName, by: &Username, committed: Committed) -> Result<(), Error> {
        self.directory.archive(room, by, committed).await
    }
}
