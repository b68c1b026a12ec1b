//! A real directory and a real history with a gate. The answer to a read of one user's rooms, or of one room, waits at the gate until the
//! test opens it. With [`READS`], reads of changes and messages wait there before they begin.

use std::sync::Arc;

use async_trait::async_trait;
use chat::{
    Error,
    directory::{ChangesSince, Committed, Directory, Limits, NewRoom, Request, RoomInfo, RoomRecord},
    history::{self, Appended, Draft, History, RoomHead, Slice},
};
use proto::{
    RoomName, Timestamp, Username,
    event::{ItemType, Page},
};
use tokio::sync::Semaphore;

/// The name of a gate for the reads of changes and messages of all rooms.
pub const READS: &str = "reads of rooms";

pub struct GatedDirectory {
    directory: Arc<dyn Directory>,
    gate: Gate,
}

pub struct GatedHistory {
    history: Arc<dyn History>,
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

    pub fn wrap_history(&self, history: Arc<dyn History>) -> Arc<dyn History> {
        Arc::new(GatedHistory { history, gate: self.clone() })
    }

    /// Closes the gate and removes the permits of earlier answers.
    pub fn close(&self) {
        self.go.forget_permits(usize::MAX);
        self.read.forget_permits(usize::MAX);
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
        self.gate.pass(READS).await;
        self.directory.changes_since(room, rev, types).await
    }
}

#[async_trait]
impl History for GatedHistory {
    async fn append(
        &self,
        room: &RoomName,
        head: u64,
        drafts: Arc<[Draft]>,
        committed: history::Committed,
    ) -> Result<Appended, Error> {
        self.history.append(room, head, drafts, committed).await
    }

    async fn page(
        &self,
        room: &RoomName,
        before: Option<u64>,
        after: Option<u64>,
        limit: u32,
    ) -> Result<Page, Error> {
        self.gate.pass(READS).await;
        self.history.page(room, before, after, limit).await
    }

    async fn since(&self, room: &RoomName, seq: u64, max: usize) -> Result<Slice, Error> {
        self.gate.pass(READS).await;
        self.history.since(room, seq, max).await
    }

    async fn head(&self, room: &RoomName) -> Result<RoomHead, Error> {
        self.history.head(room).await
    }

    async fn first(&self, room: &RoomName) -> Result<u64, Error> {
        self.history.first(room).await
    }

    async fn trim(&self, room: &RoomName, keep: u64, oldest: Timestamp) -> Result<(), Error> {
        self.history.trim(room, keep, oldest).await
    }

    async fn is_empty(&self) -> Result<bool, Error> {
        self.history.is_empty().await
    }
}
