//! Conversion of the roster and of diffs to protobuf updates. An update contains at most [`NAMES`] names, so it fits the message
//! limit.

use std::collections::BTreeSet;

use proto::{
    Username,
    presence::{OnlineDiff, OnlineUsersResponse, RoomTyping, RosterUpdate, roster_update::Update},
};

use crate::roster::{Diff, State};

/// Maximum number of names in one update. 20,000 names of 34 bytes are well below 1 MiB.
const NAMES: usize = 20_000;

pub(super) fn update(update: Update) -> RosterUpdate {
    RosterUpdate { update: Some(update) }
}

/// The whole roster for a new stream: users online, then the typing users of each room. A list that is too long for one update
/// continues in diffs.
pub(super) fn full(state: &State) -> Vec<RosterUpdate> {
    let mut names = state.online().map(ToString::to_string);
    let usernames: Vec<String> = names.by_ref().take(NAMES).collect();
    let mut count = usernames.len();
    let mut updates = vec![update(Update::Online(OnlineUsersResponse { usernames }))];
    while names.len() > 0 {
        let joined: Vec<String> = names.by_ref().take(NAMES).collect();
        count += joined.len();
        updates.push(online_diff(joined, Vec::new(), count));
    }
    updates.extend(state.typing().map(|(room, users)| room_typing(room.to_string(), users.into_iter())));
    updates
}

/// The updates of a diff.
pub(super) fn from_diff(diff: Diff) -> Vec<RosterUpdate> {
    let mut updates = Vec::new();
    let mut joined = diff.joined.iter().map(ToString::to_string);
    let mut left = diff.left.iter().map(ToString::to_string);
    while joined.len() + left.len() > 0 {
        let joined: Vec<String> = joined.by_ref().take(NAMES).collect();
        let room = NAMES - joined.len();
        updates.push(online_diff(joined, left.by_ref().take(room).collect(), diff.count));
    }
    updates.extend(diff.typing.iter().map(|(room, users)| room_typing(room.to_string(), users.iter())));
    updates
}

/// All users that type in any room, sorted, without duplicates.
pub(super) fn typing_users(state: &State) -> Vec<String> {
    let users: BTreeSet<&Username> = state.typing().flat_map(|(_, users)| users).collect();
    users.into_iter().map(ToString::to_string).collect()
}

fn online_diff(joined: Vec<String>, left: Vec<String>, count: usize) -> RosterUpdate {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    update(Update::Diff(OnlineDiff { joined, left, count }))
}

fn room_typing<'a>(room: String, users: impl Iterator<Item = &'a Username>) -> RosterUpdate {
    let usernames = users.take(NAMES).map(ToString::to_string).collect();
    update(Update::Typing(RoomTyping { room, usernames }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roster::{Connections, Limits};

    #[test]
    fn a_list_too_long_for_one_update_continues_in_diffs() {
        let mut state = State::new(Limits { lease: 1, typing: 1, users: 50_000, typing_entries: 1 });
        let users: Connections = (0..45_000).map(|n| (format!("u{n}").parse().unwrap(), 1)).collect();
        state.open("n1".parse().unwrap(), users, 0).unwrap();
        let all = full(&state);
        let sizes = |updates: &[RosterUpdate]| -> Vec<(usize, u32)> {
            let size = |update: &RosterUpdate| match &update.update {
                Some(Update::Online(online)) => (online.usernames.len(), 0),
                Some(Update::Diff(diff)) => (diff.joined.len() + diff.left.len(), diff.count),
                _ => (0, 0),
            };
            updates.iter().map(size).collect()
        };
        assert_eq!(sizes(&all), [(20_000, 0), (20_000, 40_000), (5_000, 45_000)]);
        let diff = state.take_diff().unwrap();
        assert_eq!(sizes(&from_diff(diff)), [(20_000, 45_000), (20_000, 45_000), (5_000, 45_000)]);
    }
}
