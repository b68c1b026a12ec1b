//! Who is here, as the presence service tells it, on its way into the log: everybody's names while they are few, who came
//! and who went always. Started by [`crate::start`]; guests show its latest word to newcomers.

use std::collections::BTreeSet;

use proto::event::{Presence, PresenceDiff, name};
use socketio::Encoded;
use tokio::sync::{mpsc, watch};

use crate::{
    config::NAMES,
    log::{self, Entry, Log},
    presence::Heard,
};

/// Everybody online, as far as it was heard.
#[derive(Debug, Default)]
struct Crowd {
    online: BTreeSet<String>,
}

/// What a newcomer is shown: a `presence` event, or nothing while too many are online. Encoded once for all newcomers.
pub type Shown = Option<Encoded>;

/// Takes what is heard into the log and keeps `shown` at the latest of it, until there is no more.
pub async fn relay(mut heard: mpsc::Receiver<Heard>, log: Log, shown: watch::Sender<Shown>) {
    let mut crowd = Crowd::default();
    while let Some(update) = heard.recv().await {
        let Some(entry) = crowd.hear(update) else { continue };
        match &entry {
            Entry::Online { list, .. } => shown.send_replace(list.clone().and_then(encode_list)),
            Entry::OnlineUnknown => shown.send_replace(nobody_knows()),
            _ => None,
        };
        log.tell(entry).await;
    }
}

/// What is shown before anything was heard.
pub fn nobody_knows() -> Shown {
    log::encode(name::PRESENCE, &log::unknown(), None)
}

fn encode_list(online: Vec<String>) -> Shown {
    log::encode(name::PRESENCE, &Presence { online }, None)
}

impl Crowd {
    /// What an update means for the sockets.
    fn hear(&mut self, update: Heard) -> Option<Entry> {
        match update {
            Heard::Online { presence, diff } => {
                self.online = presence.online.into_iter().collect();
                let diff = (!diff.joined.is_empty() || !diff.left.is_empty()).then_some(diff);
                Some(Entry::Online { diff, list: self.list() })
            }
            Heard::Diff(diff) => {
                self.apply(&diff);
                Some(Entry::Online { list: self.list(), diff: Some(diff) })
            }
            Heard::Typing(mut typing) => {
                typing.users.truncate(NAMES);
                let room = typing.room.parse().ok()?;
                Some(Entry::Typing { room, users: typing.users })
            }
            Heard::Unknown => Some(Entry::OnlineUnknown),
        }
    }

    fn apply(&mut self, diff: &PresenceDiff) {
        self.online.retain(|name| !diff.left.contains(name));
        self.online.extend(diff.joined.iter().cloned());
    }

    /// The names, if they are few enough to be told.
    fn list(&self) -> Option<Vec<String>> {
        (self.online.len() <= NAMES).then(|| self.online.iter().cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use proto::event::{Presence, Typing};

    use super::*;

    fn diff(joined: &[&str], left: &[&str], count: u32) -> PresenceDiff {
        let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        PresenceDiff { joined: owned(joined), left: owned(left), count }
    }

    fn list(entry: Option<Entry>) -> Option<Vec<String>> {
        match entry {
            Some(Entry::Online { list, .. }) => list,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_list_follows_the_diffs() {
        let mut crowd = Crowd::default();
        let presence = Presence { online: vec!["alice".into(), "bob".into()] };
        let first = crowd.hear(Heard::Online { presence, diff: diff(&[], &[], 2) });
        assert!(matches!(&first, Some(Entry::Online { diff: None, .. })), "nobody came or went: {first:?}");
        let next = crowd.hear(Heard::Diff(diff(&["carol"], &["alice"], 2)));
        assert_eq!(list(next).unwrap(), ["bob", "carol"]);
    }

    #[test]
    fn over_200_are_told_by_diffs_alone() {
        let mut crowd = Crowd::default();
        let online: Vec<String> = (0..NAMES).map(|n| format!("u{n:03}")).collect();
        let presence = Presence { online };
        assert!(list(crowd.hear(Heard::Online { presence, diff: diff(&[], &[], 200) })).is_some());
        assert_eq!(list(crowd.hear(Heard::Diff(diff(&["x"], &[], 201)))), None);
        assert_eq!(list(crowd.hear(Heard::Diff(diff(&[], &["x"], 200)))).unwrap().len(), NAMES);
    }

    #[test]
    fn the_end_of_typing_is_told_and_a_room_without_a_name_is_not() {
        let mut crowd = Crowd::default();
        let typing = |room: &str| Heard::Typing(Typing { users: vec![], room: room.into() });
        assert!(matches!(crowd.hear(typing("lobby")), Some(Entry::Typing { users, .. }) if users.is_empty()));
        assert!(crowd.hear(typing("no room")).is_none());
    }
}
