//! Who is in one room, and what follows from it: may they post, may they manage. Pure; [`super::Room`] keeps it and asks it.

use std::collections::HashMap;

use proto::{RoomName, Username};

use crate::{
    Error,
    directory::{Entry, Member, Role, refusal},
};

/// What somebody is to a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// In it, with this role.
    In(Role),
    /// Not in it.
    Out,
}

/// A room as its members and others see it.
#[derive(Debug)]
pub struct Members {
    /// The room, for the lobby's sake.
    room: RoomName,
    /// Whether others may know of it.
    private: bool,
    /// By [`Username::key`]; empty in the lobby, where everybody is.
    by_key: HashMap<String, Member>,
}

impl Members {
    /// As the directory has it.
    pub fn new(entry: Entry) -> Self {
        let mut members =
            Self { room: entry.room_info.name, private: entry.room_info.private, by_key: HashMap::new() };
        members.replace(entry.members);
        members
    }

    /// These are the members now.
    pub fn replace(&mut self, members: Vec<Member>) {
        self.by_key = members.into_iter().map(|member| (member.username.key(), member)).collect();
    }

    /// Others may know of it now, or not any more.
    pub fn set_private(&mut self, private: bool) {
        self.private = private;
    }

    /// Whether the room is kept from others.
    pub fn is_private(&self) -> bool {
        self.private
    }

    /// What `user` is to the room.
    pub fn standing(&self, user: &Username) -> Standing {
        if self.room.is_lobby() {
            return Standing::In(Role::Member);
        }
        self.by_key.get(&user.key()).map_or(Standing::Out, |member| Standing::In(member.role))
    }

    /// Who owns it.
    pub fn owner(&self) -> Option<Username> {
        self.by_key.values().find(|member| member.role == Role::Owner).map(|member| member.username.clone())
    }

    /// Everybody listed, by name.
    pub fn list(&self) -> Vec<Member> {
        let mut list: Vec<Member> = self.by_key.values().cloned().collect();
        list.sort_by_key(|member| member.username.key());
        list
    }

    /// May `user` read and post?
    ///
    /// # Errors
    /// Others learn that they are not members, and of a private room they learn nothing.
    pub fn check_member(&self, user: &Username) -> Result<Role, Error> {
        match self.standing(user) {
            Standing::In(role) => Ok(role),
            Standing::Out if self.private => Err(Error::NotFound),
            Standing::Out => Err(refusal::not_member()),
        }
    }

    /// May `user` manage the room?
    ///
    /// # Errors
    /// As [`Members::check_member`], and for members who do not own it.
    pub fn check_owner(&self, user: &Username) -> Result<(), Error> {
        match self.check_member(user)? {
            Role::Owner => Ok(()),
            Role::Member => Err(refusal::not_owner()),
        }
    }

    /// May `user` enter by themselves? A private room opens to members only, and to others it does not exist.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn check_entry(&self, user: &Username) -> Result<(), Error> {
        match self.standing(user) {
            Standing::Out if self.private => Err(Error::NotFound),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::RoomInfo;

    fn user(name: &str) -> Username {
        name.parse().unwrap()
    }

    fn members(room: &str, private: bool) -> Members {
        let owner = Member { username: user("Alice"), role: Role::Owner, added_by: None };
        let other = Member { username: user("bob"), role: Role::Member, added_by: None };
        let room_info =
            RoomInfo { name: room.parse().unwrap(), private, ephemeral: false, owner: Some(user("Alice")) };
        let listed = if room == "lobby" { vec![] } else { vec![owner, other] };
        Members::new(Entry { room_info, members: listed })
    }

    #[test]
    fn a_stranger_learns_of_a_public_room_and_nothing_of_a_private_one() {
        let eve = user("eve");
        assert_eq!(members("den", true).check_member(&eve), Err(Error::NotFound));
        assert_eq!(members("den", true).check_owner(&eve), Err(Error::NotFound));
        assert_eq!(members("den", true).check_entry(&eve), Err(Error::NotFound));
        assert!(matches!(members("tea", false).check_member(&eve), Err(Error::Forbidden(_))));
        assert_eq!(members("tea", false).check_entry(&eve), Ok(()));
    }

    #[test]
    fn a_name_counts_in_any_case() {
        assert_eq!(members("den", true).check_member(&user("ALICE")), Ok(Role::Owner));
        assert_eq!(members("den", true).check_owner(&user("alice")), Ok(()));
        assert_eq!(members("den", true).check_member(&user("BOB")), Ok(Role::Member));
        assert!(matches!(members("den", true).check_owner(&user("bob")), Err(Error::Forbidden(_))));
    }

    #[test]
    fn everybody_is_in_the_lobby_and_nobody_owns_it() {
        let lobby = members("lobby", false);
        assert_eq!(lobby.check_member(&user("eve")), Ok(Role::Member));
        assert!(matches!(lobby.check_owner(&user("eve")), Err(Error::Forbidden(_))));
        assert_eq!(lobby.owner(), None);
    }

    #[test]
    fn who_was_removed_is_a_stranger_again() {
        let mut den = members("den", true);
        den.replace(vec![Member { username: user("Alice"), role: Role::Owner, added_by: None }]);
        assert_eq!(den.check_member(&user("bob")), Err(Error::NotFound));
        assert_eq!(den.list().len(), 1);
    }
}
