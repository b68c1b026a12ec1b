//! The members of one room and the permissions that follow from membership. Pure; owned by [`super::Room`].

use std::collections::HashMap;

use proto::{
    Username,
    event::{Act, RoomKind, Settings},
};

use crate::{
    Error,
    directory::{Member, Role, RoomRecord},
    permission,
};

/// The members of a room.
#[derive(Debug)]
pub struct Members {
    kind: RoomKind,
    /// The members by [`Username::key`]. Empty in a room that does not list members.
    by_key: HashMap<String, Member>,
}

impl Members {
    /// The members that the directory has stored.
    pub fn new(entry: RoomRecord) -> Self {
        let mut members = Self { kind: entry.room_info.kind(), by_key: HashMap::new() };
        members.replace(entry.members);
        members
    }

    /// Replaces the member list.
    pub fn replace(&mut self, members: Vec<Member>) {
        self.by_key = members.into_iter().map(|member| (member.username.key(), member)).collect();
    }

    /// The role of `user`. `None` if `user` is not a member.
    pub fn role(&self, user: &Username) -> Option<Role> {
        if !self.kind.lists_members() {
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

    /// Checks that `user` may do `act` in the room, which has these settings.
    ///
    /// # Errors
    /// As [`permission::check`].
    pub fn check(&self, user: &Username, act: Act, settings: &Settings) -> Result<(), Error> {
        permission::check(self.role(user), act, settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::RoomInfo;

    fn user(name: &str) -> Username {
        name.parse().unwrap()
    }

    /// Members with their room's settings.
    struct TestRoom(Members, Settings);

    impl TestRoom {
        fn check(&self, name: &str, act: Act) -> Result<(), Error> {
            self.0.check(&user(name), act, &self.1)
        }
    }

    fn members(room: &str, private: bool) -> TestRoom {
        let owner = Member { username: user("Alice"), role: Role::Owner, added_by: None };
        let other = Member { username: user("bob"), role: Role::Member, added_by: None };
        let settings = Settings { private, ..Settings::default() };
        let (name, owner_name) = (room.parse().unwrap(), Some(user("Alice")));
        let room_info = RoomInfo { name, settings: settings.clone(), owner: owner_name };
        let listed = if room == "lobby" { vec![] } else { vec![owner, other] };
        TestRoom(
            Members::new(RoomRecord { room_info, members: listed, departures: vec![], rev: 0 }),
            settings,
        )
    }

    #[test]
    fn non_members_get_forbidden_for_a_public_room_and_not_found_for_a_private_one() {
        for act in [Act::Read, Act::ChangeSettings, Act::Enter] {
            assert_eq!(members("den", true).check("eve", act), Err(Error::NotFound));
        }
        assert!(matches!(members("tea", false).check("eve", Act::Read), Err(Error::Forbidden(_))));
        assert_eq!(members("tea", false).check("eve", Act::Enter), Ok(()));
    }

    #[test]
    fn names_are_compared_without_regard_to_case() {
        let den = members("den", true);
        assert_eq!(den.0.role(&user("ALICE")), Some(Role::Owner));
        assert_eq!(den.check("alice", Act::ChangeSettings), Ok(()));
        assert_eq!(den.0.role(&user("BOB")), Some(Role::Member));
        assert_eq!(den.check("BOB", Act::Read), Ok(()));
        assert!(matches!(den.check("bob", Act::ChangeSettings), Err(Error::Forbidden(_))));
    }

    #[test]
    fn every_user_is_a_member_of_the_lobby_and_it_has_no_owner() {
        let lobby = members("lobby", false);
        assert_eq!((lobby.0.role(&user("eve")), lobby.check("eve", Act::Read)), (Some(Role::Member), Ok(())));
        assert!(matches!(lobby.check("eve", Act::ChangeSettings), Err(Error::Forbidden(_))));
        assert_eq!(lobby.0.owner(), None);
    }
}
