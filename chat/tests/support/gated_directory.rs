//! A real directory with a gate. The answer to a read of one user's rooms, or of one room, waits at the gate until the test opens it.

use std::sync::Arc;

use async_trait::async_trait;
use chat::{
    Error,
    directory::{ChangesSince, Committed, Directory, Limits, NewRoom, Request, RoomInfo, RoomRecord},
};
use proto::{RoomName, Username, event::ItemType};
use tokio::sync::Semaphore;

pub struct GatedDirectory {
    directory: Arc<dyn Directory>,
    gate: Gate,
}

/// The gate: one permit in `read` for each answer that has arrived, one in `go` for each answer that may pass.
#[derive(Clone)]
pub struct Gate {
    /// The user or room whose answers wait. All others pass.
    pub name: &'static str,
    pub read: Arc<Semaphore>,
    pub go: Arc<Semaphore>,
}

impl Gate {
    pub fn of(name: &'static str) -> Self {
        Self { name, read: Arc::new(Semaphore::new(0)), go: Arc::new(Semaphore::new(0)) }
    }

    pub fn wrap(&self, directory: Arc<dyn Directory>) -> Arc<dyn Directory> {
        Arc::new(GatedDirectory { directory, gate: self.clone() })
    }

    /// Waits until an answer has arrived at the gate.
    pub async fn wait_for_read(&self) {
        self.read.acquire().await.unwrap().forget();
    }

    async fn pass(&self, name: &str) {
        if name == self.name {
            self.read.add_permits(1);
            self.go.acquire().await.unwrap().forget();
        }
    }

    /// Opens the gate permanently.
    pub fn open(&self) {
        self.go.add_permits(1000);
    }
}

#[async_trait]
impl Directory for GatedDirectory {
    async fn rooms_of(&self, user: &Username) -> Result<Vec<RoomInfo>, Error> {
        let rooms = self.directory.rooms_of(user).await;
        self.gate.pass(user.as_str()).await;
        rooms
    }

    async fn has_member(&self, name: &Username) -> Result<bool, Error> {
        self.directory.has_member(name).await
    }

    async fn create(&self, room: NewRoom, limit: usize, committed: Committed) -> Result<RoomInfo, Error> {
        self.directory.create(room, limit, committed).await
    }

    async fn find(&self, room: &RoomName) -> Result<Option<RoomRecord>, Error> {
        let found = self.directory.find(room).await;
        self.gate.pass(room.as_str()).await;
        found
    }

    async fn change(
        &self,
        room: &RoomName,
        request: Request,
        limits: Limits,
        committed: Committed,
    ) -> Result<Option<RoomRecord>, Error> {
        self.directory.change(room, request, limits, committed).await
    }

    async fn changes_since(
        &self,
        room: &RoomName,
        rev: u64,
        types: &[ItemType],
    ) -> Result<Option<ChangesSince>, Error> {
        self.directory.changes_since(room, rev, types).await
    }
}
