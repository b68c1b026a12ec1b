//! The members of one room and the permissions that follow from membership. Pure; owned by [`super::Room`].

use std::collections::HashMap;

use proto::{RoomName, Username, event::Act};

use crate::{
    Error,
    directory::{Member, Role, RoomRecord, refusal},
};

/// The members of a room and its visibility.
#[derive(Debug)]
pub struct Members {
    /// The room's name. Every user is a member of the lobby.
    room: RoomName,
    /// Whether the room is invisible to users who are not members.
    private: bool,
    /// The members by [`Username::key`]. Empty in the lobby.
    by_key: HashMap<String, Member>,
}

impl Members {
    /// The members that the directory has stored.
    pub fn new(entry: RoomRecord) -> Self {
        let mut members =
            Self { room: entry.room_info.name, private: entry.room_info.private, by_key: HashMap::new() };
        members.replace(entry.members);
        members
    }

    /// Replaces the member list.
    pub fn replace(&mut self, members: Vec<Member>) {
        self.by_key = members.into_iter().map(|member| (member.username.key(), member)).collect();
    }

    /// Sets whether the room is private.
    pub fn set_private(&mut self, private: bool) {
        self.private = private;
    }

    /// Whether the room is private: invisible to users who are not members.
    pub fn is_private(&self) -> bool {
        self.private
    }

    /// The role of `user`. `None` if `user` is not a member.
    pub fn role(&self, user: &Username) -> Option<Role> {
        if self.room.is_lobby() {
            return Some(Role::Member);
        }
        self.by_key.get(&user.key()).map(|member| member.role)
    }

    /// The owner. `None` for the lobby and for a public room without members.
    pub fn owner(&self) -> Option<Username> {
        self.by_key.values().find(|member| member.role == Role::Owner).map(|member| member.username.clone())
    }

    /// All members, sorted by name. Empty for the lobby.
    pub fn list(&self) -> Vec<Member> {
        let mut list: Vec<Member> = self.by_key.values().cloned().collect();
        list.sort_by_key(|member| member.username.key());
        list
    }

    /// Checks that `user` has the permission for `act`.
    ///
    /// # Errors
    /// As the check of the act.
    pub fn check(&self, user: &Username, act: Act) -> Result<(), Error> {
        match act {
            Act::Describe | Act::Enter => self.check_join(user),
            Act::Read | Act::Post | Act::Leave => self.check_member(user).map(drop),
            Act::AddMember | Act::RemoveMember | Act::ChangeSettings | Act::Archive => self.check_owner(user),
        }
    }

    /// Checks that `user` may read and post. Returns the user's role.
    ///
    /// # Errors
    /// For users who are not members: [`Error::Forbidden`], or [`Error::NotFound`] if the room is private.
    pub fn check_member(&self, user: &Username) -> Result<Role, Error> {
        match self.role(user) {
            Some(role) => Ok(role),
            None if self.private => Err(Error::NotFound),
            None => Err(refusal::not_member()),
        }
    }

    /// Checks that `user` may change the room and its members.
    ///
    /// # Errors
    /// As [`Members::check_member`], and [`Error::Forbidden`] for members who do not own the room.
    pub fn check_owner(&self, user: &Username) -> Result<(), Error> {
        match self.check_member(user)? {
            Role::Owner => Ok(()),
            Role::Member => Err(refusal::not_owner()),
        }
    }

    /// Checks that `user` may join without being added by the owner: the room is public, or `user` is a member already.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn check_join(&self, user: &Username) -> Result<(), Error> {
        match self.role(user) {
            None if self.private => Err(Error::NotFound),
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
        Members::new(RoomRecord { room_info, members: listed, rev: 0 })
    }

    #[test]
    fn non_members_get_forbidden_for_a_public_room_and_not_found_for_a_private_one() {
        let eve = user("eve");
        assert_eq!(members("den", true).check_member(&eve), Err(Error::NotFound));
        assert_eq!(members("den", true).check_owner(&eve), Err(Error::NotFound));
        assert_eq!(members("den", true).check_join(&eve), Err(Error::NotFound));
        assert!(matches!(members("tea", false).check_member(&eve), Err(Error::Forbidden(_))));
        assert_eq!(members("tea", false).check_join(&eve), Ok(()));
    }

    #[test]
    fn names_are_compared_without_regard_to_case() {
        assert_eq!(members("den", true).check_member(&user("ALICE")), Ok(Role::Owner));
        assert_eq!(members("den", true).check_owner(&user("alice")), Ok(()));
        assert_eq!(members("den", true).check_member(&user("BOB")), Ok(Role::Member));
        assert!(matches!(members("den", true).check_owner(&user("bob")), Err(Error::Forbidden(_))));
    }

    #[test]
    fn every_user_is_a_member_of_the_lobby_and_it_has_no_owner() {
        let lobby = members("lobby", false);
        assert_eq!(lobby.check_member(&user("eve")), Ok(Role::Member));
        assert!(matches!(lobby.check_owner(&user("eve")), Err(Error::Forbidden(_))));
        assert_eq!(lobby.owner(), None);
    }

    #[test]
    fn a_removed_member_is_refused() {
        let mut den = members("den", true);
        den.replace(vec![Member { username: user("Alice"), role: Role::Owner, added_by: None }]);
        assert_eq!(den.check_member(&user("bob")), Err(Error::NotFound));
        assert_eq!(den.list().len(), 1);
    }
}
