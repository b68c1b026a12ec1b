//! Real stores with fault injection: writes fail before or after they are committed.

use std::sync::Arc;

use async_trait::async_trait;
use proto::{RoomName, Timestamp, Username, event::Page};
use tokio::sync::watch;

use crate::{
    Error,
    directory::{self, Directory, Limits, NewRoom, Request, RoomInfo, RoomRecord},
    history::{Appended, Committed, Draft, History, RoomHead, Slice},
};

/// The fault of a write.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    None,
    /// Nothing is stored, and the write returns an error.
    Fails,
    /// The write is stored, and its answer is lost.
    StoresAndFails,
    /// The answer is lost, and the write is stored when the fault is cleared.
    FailsAndStores,
    /// The write waits until the fault is cleared.
    Waits,
    /// Reads of the directory return an error.
    ReadsFail,
}

pub struct FaultyHistory {
    pub history: Arc<dyn History>,
    pub fault: watch::Receiver<Fault>,
}

#[derive(Clone)]
pub struct FaultyDirectory {
    pub directory: Arc<dyn Directory>,
    pub fault: watch::Receiver<Fault>,
}

async fn wait_for_fault(fault: &watch::Receiver<Fault>) -> Fault {
    *fault.clone().wait_for(|fault| *fault != Fault::Waits).await.unwrap()
}

fn lost_answer<T>() -> Result<T, Error> {
    Err(Error::Store("the answer was lost".into()))
}

#[async_trait]
impl History for FaultyHistory {
    async fn append(
        &self,
        room: &RoomName,
        head: u64,
        drafts: Arc<[Draft]>,
        committed: Committed,
    ) -> Result<Appended, Error> {
        let fault = wait_for_fault(&self.fault).await;
        if fault == Fault::Fails {
            return lost_answer();
        }
        let appended = self.history.append(room, head, drafts, committed).await;
        if fault == Fault::StoresAndFails { lost_answer() } else { appended }
    }

    async fn page(
        &self,
        room: &RoomName,
        before: Option<u64>,
        after: Option<u64>,
        limit: u32,
    ) -> Result<Page, Error> {
        self.history.page(room, before, after, limit).await
    }

    async fn since(&self, room: &RoomName, seq: u64, max: usize) -> Result<Slice, Error> {
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

#[async_trait]
impl Directory for FaultyDirectory {
    async fn create(
        &self,
        room: NewRoom,
        limit: usize,
        committed: directory::Committed,
    ) -> Result<RoomInfo, Error> {
        self.directory.create(room, limit, committed).await
    }

    async fn find(&self, room: &RoomName) -> Result<Option<RoomRecord>, Error> {
        if *self.fault.borrow() == Fault::ReadsFail {
            return lost_answer();
        }
        self.directory.find(room).await
    }

    async fn rooms_of(&self, user: &Username) -> Result<Vec<RoomInfo>, Error> {
        self.directory.rooms_of(user).await
    }

    /// The fault is one of requests that end a membership.
    async fn change(
        &self,
        room: &RoomName,
        request: Request,
        limits: Limits,
        committed: directory::Committed,
    ) -> Result<Option<RoomRecord>, Error> {
        let fault = match request.former_member() {
            Some(_) => wait_for_fault(&self.fault).await,
            None => Fault::None,
        };
        match fault {
            Fault::StoresAndFails => {
                self.directory.change(room, request, limits, committed).await?;
                lost_answer()
            }
            Fault::FailsAndStores => {
                let (this, room) = (self.clone(), room.clone());
                actix_rt::spawn(async move {
                    this.fault.clone().wait_for(|fault| *fault == Fault::None).await.unwrap();
                    this.directory.change(&room, request, limits, committed).await.unwrap();
                });
                lost_answer()
            }
            _ => self.directory.change(room, request, limits, committed).await,
        }
    }

    async fn changes_since(
        &self,
        room: &RoomName,
        rev: u64,
        types: &[proto::event::ItemType],
    ) -> Result<Option<directory::ChangesSince>, Error> {
        self.directory.changes_since(room, rev, types).await
    }
}
