//! What a change makes of a room: decided on what was read, written as an update of one document. Pure.

use mongodb::bson::{Document, doc};
use proto::Username;

use super::document::person;
use crate::directory::{Member, Role};

/// A change of a room that is there.
#[derive(Debug, Clone)]
pub enum Change {
    /// Somebody becomes a member, if they are in fewer than `limit` rooms.
    Add { user: Username, limit: usize },
    /// A membership ends.
    Remove { user: Username },
    /// It becomes private or public.
    SetPrivate(bool),
    /// It ends.
    Archive,
}

impl Change {
    /// Whose rooms are to be counted before.
    pub fn limit(&self) -> Option<(&Username, usize)> {
        if let Self::Add { user, limit } = self { Some((user, *limit)) } else { None }
    }

    /// The update of a room with these members, and the members after it; none when there is nothing to change.
    pub fn on(&self, private: bool, mut members: Vec<Member>) -> Option<(Document, Vec<Member>)> {
        let place = |user: &Username| members.iter().position(|member| member.username.key() == user.key());
        let update = match self {
            Self::Add { user, .. } => {
                if place(user).is_some() {
                    return None;
                }
                let role = if members.is_empty() { Role::Owner } else { Role::Member };
                members.push(Member { username: user.clone(), role });
                doc! { "$push": { "members": members.last().map(person) } }
            }
            Self::Remove { user } => {
                let gone = members.remove(place(user)?);
                match members.first_mut() {
                    Some(heir) if gone.role == Role::Owner => {
                        heir.role = Role::Owner;
                        let members: Vec<Document> = members.iter().map(person).collect();
                        doc! { "$set": { "members": members } }
                    }
                    // Nobody could ever enter it again.
                    None if private => doc! { "$set": { "members": [], "archived": true } },
                    _ => doc! { "$pull": { "members": { "key": user.key() } } },
                }
            }
            Self::SetPrivate(private) => doc! { "$set": { "private": *private } },
            Self::Archive => doc! { "$set": { "archived": true } },
        };
        Some((update, members))
    }
}
