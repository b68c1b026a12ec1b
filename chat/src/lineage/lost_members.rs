//! Rooms whose members are not those that their documents state, because one of the collections was dropped or restored alone. No user can
//! enter them. Used by [`super::mongo`].

use std::sync::{Arc, Mutex, PoisonError};

use crate::directory::mongo::MongoDirectory;

/// The state of the members of one database, as it was read last. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LostMembers {
    directory: MongoDirectory,
    degradation: Arc<Mutex<Option<String>>>,
}

impl LostMembers {
    /// The field of the lineage by which all nodes search such rooms.
    pub const FIELD: &str = "may_lack_members";

    /// The members of the rooms of `directory`.
    pub fn new(directory: MongoDirectory) -> Self {
        Self { directory, degradation: Arc::default() }
    }

    /// The loss and its remedy, as a text that follows "MongoDB". `None` when no member is lost.
    pub fn degradation(&self) -> Option<String> {
        self.degradation.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Records that no member is lost.
    pub fn clear(&self) {
        *self.degradation.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Searches a room with other members than its document states, and logs the first one. Returns whether all rooms have their members;
    /// false when MongoDB does not answer.
    pub async fn are_all_found(&self) -> bool {
        let lost = match self.directory.room_with_other_members().await {
            Ok(None) => {
                self.clear();
                return true;
            }
            Ok(Some(room)) => format!("for example of the room {room}"),
            Err(error) => format!("or they cannot be searched: {error}"),
        };
        let text = format!(
            "has other members than the documents of rooms state ({lost}): the collection of rooms or of members was dropped or restored alone; restore both from one backup. Until then these rooms cannot be entered"
        );
        let mut degradation = self.degradation.lock().unwrap_or_else(PoisonError::into_inner);
        if degradation.as_ref() != Some(&text) {
            tracing::error!("members of rooms are lost: MongoDB {text}");
        }
        *degradation = Some(text);
        false
    }
}
