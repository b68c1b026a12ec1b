//! Who is here, as the presence service tells it, on its way into the log: everybody's names while they are few, who came
//! and who went always. Started by [`crate::start`]; guests show its latest word to newcomers.

use std::{collections::BTreeSet, sync::Arc};

use proto::{
    Username,
    event::{Presence, PresenceDiff, name},
};
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

/// What newcomers are shown of who is here.
#[derive(Debug, Clone)]
pub enum Shown {
    /// Nobody knows.
    Unknown,
    /// These are online; the event is encoded once for all who are among them already.
    Names(Arc<BTreeSet<String>>, Option<Encoded>),
    /// Too many to be told.
    Many,
}

/// Takes what is heard into the log and keeps `shown` at the latest of it, until there is no more.
pub async fn relay(mut heard: mpsc::Receiver<Heard>, log: Log, shown: watch::Sender<Shown>) {
    let mut crowd = Crowd::default();
    while let Some(update) = heard.recv().await {
        let Some(entry) = crowd.hear(update) else { continue };
        match &entry {
            Entry::Online { list, .. } => drop(shown.send_replace(Shown::of(list.clone()))),
            Entry::OnlineUnknown => drop(shown.send_replace(Shown::Unknown)),
            _ => {}
        }
        log.tell(entry).await;
    }
}

impl Shown {
    fn of(list: Option<Vec<String>>) -> Self {
        let Some(names) = list else { return Self::Many };
        let packet = encode_list(names.iter().cloned());
        Self::Names(Arc::new(names.into_iter().collect()), packet)
    }

    /// The `presence` event for a newcomer, who is here whether the roster has said so yet or not.
    pub fn to(&self, newcomer: &Username) -> Option<Encoded> {
        match self {
            Self::Unknown => log::encode(name::PRESENCE, &log::unknown(), None),
            Self::Many => None,
            Self::Names(names, packet) if names.contains(newcomer.as_str()) => packet.clone(),
            Self::Names(names, _) if names.len() < NAMES => {
                let mut all = BTreeSet::clone(names);
                all.insert(newcomer.to_string());
                encode_list(all.into_iter())
            }
            Self::Names(..) => None,
        }
    }
}

fn encode_list(online: impl Iterator<Item = String>) -> Option<Encoded> {
    log::encode(name::PRESENCE, &Presence { online: online.collect() }, None)
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
    fn a_newcomer_is_always_among_those_shown() {
        let show = |names: &[&str]| Shown::of(Some(names.iter().map(ToString::to_string).collect()));
        let event = |names: &[&str]| encode_list(names.iter().map(ToString::to_string));
        let bob: Username = "bob".parse().unwrap();
        assert_eq!(show(&[]).to(&bob), event(&["bob"]));
        assert_eq!(show(&["alice", "carol"]).to(&bob), event(&["alice", "bob", "carol"]));
        assert_eq!(show(&["bob"]).to(&bob), event(&["bob"]));
        assert_eq!(Shown::of(None).to(&bob), None);
        let full: Vec<String> = (0..NAMES).map(|n| format!("u{n:03}")).collect();
        assert_eq!(Shown::of(Some(full)).to(&bob), None, "one too many");
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
