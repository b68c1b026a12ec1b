//! Sample rooms and messages for an empty store. Called by the binary's `seed` command.

use proto::{RoomName, Timestamp, Username, event::Settings};

use crate::{
    Error, SqliteStore, Text,
    directory::{Limits, NewRoom, Request},
    history::{Draft, RoomHead},
    id::new_id,
};

/// A sample message.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The room. If it does not exist, it is created as a public room that the author owns.
    pub room: RoomName,
    /// The author, who becomes a member.
    pub author: Username,
    /// The text.
    pub text: String,
}

/// The samples are written before there are users.
const UNLIMITED: Limits = Limits { rooms_per_user: usize::MAX, additions_per_user: usize::MAX };

/// Stores `samples` in their order. Must be called before [`crate::start`], because the messages are not published.
///
/// # Errors
/// [`Error::Conflict`] when a message was ever stored in this store.
pub async fn seed(store: &SqliteStore, samples: Vec<Sample>) -> Result<(), Error> {
    let (history, directory) = (store.history(), store.directory());
    if !history.is_empty().await? {
        return Err(Error::Conflict("the store holds messages already"));
    }
    for Sample { room, author, text } in samples {
        if directory.find(&room).await?.is_none() {
            let settings = Settings::default();
            let new = NewRoom { name: room.clone(), owner: author.clone(), settings };
            directory.create(new, usize::MAX, Box::new(drop)).await?;
        }
        directory.change(&room, Request::Join { user: author.clone() }, UNLIMITED, Box::new(drop)).await?;
        let RoomHead { seq, timestamp } = history.head(&room).await?;
        let text = Text::parse(text, usize::MAX)?;
        let timestamp = Timestamp::now_after(timestamp);
        let draft = Draft { id: new_id()?, author, text, client_id: None, timestamp, origin: None };
        history.append(&room, seq, [draft].into(), Box::new(|_| ())).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(room: &str, author: &str, text: &str) -> Sample {
        Sample { room: room.parse().unwrap(), author: author.parse().unwrap(), text: text.into() }
    }

    #[actix_rt::test]
    async fn store_is_seeded_once() {
        let dir = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&dir.path().join("chat.sqlite3")).unwrap();
        let samples =
            vec![sample("lobby", "alice", "hi"), sample("tea", "bob", "tea?"), sample("tea", "alice", "yes")];
        seed(&store, samples.clone()).await.unwrap();
        let tea = store.history().page(&"tea".parse().unwrap(), None, None, 10).await.unwrap();
        let messages: Vec<_> =
            tea.messages.iter().map(|m| (m.seq, m.from.as_str(), m.data.text.as_str())).collect();
        assert_eq!(messages, [(2, "alice", "yes"), (1, "bob", "tea?")]);
        let members = store.directory().find(&"tea".parse().unwrap()).await.unwrap().unwrap().members;
        assert_eq!(members.len(), 2);
        assert!(matches!(seed(&store, samples).await, Err(Error::Conflict(_))));
    }
}
