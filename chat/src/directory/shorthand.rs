//! One method for each [`Request`], for tests.

use async_trait::async_trait;
use proto::{RoomName, Username, event::SettingsPatch};

use super::{Committed, Directory, Limits, Member, Request};
use crate::Error;

/// No limit is reached in tests of other things.
const UNLIMITED: usize = usize::MAX;

fn limits(rooms_per_user: usize) -> Limits {
    Limits { rooms_per_user, additions_per_user: UNLIMITED }
}

/// [`Directory::change`] with each [`Request`]. The members after the change are returned; of a room that has ended there are no members.
#[async_trait]
pub trait Shorthand: Directory {
    /// [`Request::Join`].
    async fn add(
        &self,
        room: &RoomName,
        user: &Username,
        limit: usize,
        committed: Committed,
    ) -> Result<Vec<Member>, Error> {
        let request = Request::Join { user: user.clone() };
        members(self.change(room, request, limits(limit), committed).await)
    }

    /// [`Request::Add`].
    async fn add_by(
        &self,
        room: &RoomName,
        user: &Username,
        by: &Username,
        additions_per_user: usize,
        committed: Committed,
    ) -> Result<Vec<Member>, Error> {
        let request = Request::Add { user: user.clone(), by: by.clone() };
        members(
            self.change(room, request, Limits { rooms_per_user: UNLIMITED, additions_per_user }, committed)
                .await,
        )
    }

    /// [`Request::Leave`].
    async fn leave(
        &self,
        room: &RoomName,
        user: &Username,
        committed: Committed,
    ) -> Result<Vec<Member>, Error> {
        let request = Request::Leave { user: user.clone() };
        members(self.change(room, request, limits(UNLIMITED), committed).await)
    }

    /// [`Request::Remove`].
    async fn remove(
        &self,
        room: &RoomName,
        user: &Username,
        by: &Username,
        committed: Committed,
    ) -> Result<Vec<Member>, Error> {
        let request = Request::Remove { user: user.clone(), by: by.clone() };
        members(self.change(room, request, limits(UNLIMITED), committed).await)
    }

    /// [`Request::Settings`].
    async fn change_settings(
        &self,
        room: &RoomName,
        by: &Username,
        patch: &SettingsPatch,
        committed: Committed,
    ) -> Result<(), Error> {
        let request = Request::Settings { patch: patch.clone(), by: by.clone() };
        self.change(room, request, limits(UNLIMITED), committed).await.map(drop)
    }

    /// [`Request::Archive`].
    async fn archive(&self, room: &RoomName, by: &Username, committed: Committed) -> Result<(), Error> {
        let request = Request::Archive { by: by.clone() };
        self.change(room, request, limits(UNLIMITED), committed).await.map(drop)
    }
}

impl<T: Directory + ?Sized> Shorthand for T {}

fn members(changed: Result<Option<super::RoomRecord>, Error>) -> Result<Vec<Member>, Error> {
    changed.map(|record| record.map_or_else(Vec::new, |record| record.members))
}
