//! Reads of the stored messages and changes of one room by one user. Permission is checked before and after a read, because a read can wait
//! in the queue of the store: without the second check, a user whose membership has ended meanwhile would receive what was posted after the
//! end. Used by commands, which read the stores of a room in no other way.

use std::time::Instant;

use futures_util::future::try_join;
use proto::{
    RoomName, Username,
    event::{Act, ItemType, Page},
};

use crate::{
    Chat, Error,
    directory::ChangesSince,
    history::{RoomHead, Slice},
    room::membership::Check,
};

/// The stored messages and changes of one room. Exists during [`read`].
pub struct RoomReader<'a> {
    chat: &'a Chat,
    room: &'a RoomName,
    rev: u64,
}

/// Calls `read` if `user` may read the room, and returns its answer if the user still may.
///
/// # Errors
/// The refusal of the room before or after the read, and the error of `read`.
pub async fn read<T>(
    chat: &Chat,
    user: &Username,
    room: &RoomName,
    deadline: Instant,
    read: impl AsyncFnOnce(RoomReader<'_>) -> Result<T, Error>,
) -> Result<T, Error> {
    let check = || Check { user: user.clone(), act: Act::Read };
    let rev = chat.ask(room, check(), deadline).await?;
    let answer = read(RoomReader { chat, room, rev }).await?;
    chat.ask(room, check(), deadline).await?;
    Ok(answer)
}

impl RoomReader<'_> {
    /// The number of the room's last change before the read. On a node of a cluster it can be smaller than the number in the store.
    pub fn rev(&self) -> u64 {
        self.rev
    }

    /// As [`History::page`](crate::history::History::page).
    ///
    /// # Errors
    /// The error of the store.
    pub async fn page(&self, before: Option<u64>, after: Option<u64>, limit: u32) -> Result<Page, Error> {
        self.chat.history().page(self.room, before, after, limit).await
    }

    /// As [`History::head`](crate::history::History::head).
    ///
    /// # Errors
    /// The error of the store.
    pub async fn head(&self) -> Result<RoomHead, Error> {
        self.chat.history().head(self.room).await
    }

    /// The room's head, and the smallest `seq` that the room keeps. Both are read at the same time.
    ///
    /// # Errors
    /// The error of the store.
    pub async fn head_and_first(&self) -> Result<(RoomHead, u64), Error> {
        try_join(self.head(), self.chat.history().first(self.room)).await
    }

    /// At most `max` messages after `seq`, as [`History::since`](crate::history::History::since), and the smallest `seq` that the room
    /// keeps. It is that of the first message of a slice from the beginning. Otherwise both are read at the same time.
    ///
    /// # Errors
    /// The error of the store.
    pub async fn slice_and_first(&self, seq: u64, max: usize) -> Result<(Slice, u64), Error> {
        let history = self.chat.history();
        if seq > 0 {
            return try_join(history.since(self.room, seq, max), history.first(self.room)).await;
        }
        let slice = history.since(self.room, 0, max).await?;
        let first = match slice.messages.first() {
            Some(stored) => stored.message.seq,
            None => history.first(self.room).await?,
        };
        Ok((slice, first))
    }

    /// As [`Directory::changes_since`](crate::directory::Directory::changes_since).
    ///
    /// # Errors
    /// [`Error::NotFound`] when the room does not exist, and the error of the store.
    pub async fn changes_since(&self, rev: u64, types: &[ItemType]) -> Result<ChangesSince, Error> {
        self.chat.directory().changes_since(self.room, rev, types).await?.ok_or(Error::NotFound)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    /// A read that does not use [`super::read`] has no second check.
    #[test]
    fn no_command_reads_the_stores_of_a_room_in_another_way() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut paths = vec![folder.join("catch_up.rs")];
        for part in ["commands", "http", "client"] {
            paths.extend(fs::read_dir(folder.join(part)).unwrap().map(|entry| entry.unwrap().path()));
        }
        assert!(paths.len() > 25, "{paths:?}");
        for path in paths.iter().filter(|path| !path.ends_with("http/tests.rs")) {
            let source = fs::read_to_string(path).unwrap();
            let directly = ["history()", "directory().find(", "directory().changes_since("];
            let found: Vec<_> = directly.iter().filter(|call| source.contains(**call)).collect();
            assert!(found.is_empty(), "{}: {found:?}", path.display());
        }
    }
}
