//! Who is online, on its way from the presence service into the log, and for sockets that connect. [`pending`] decides
//! what is sent when. Started by [`crate::start`].

mod pending;

use std::{collections::BTreeSet, sync::Arc};

use proto::{
    Username,
    event::{Presence, name},
};
use socketio::Encoded;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};

use crate::{
    broker::{self, Broker, Entry},
    config::NAMES,
    presence::PresenceUpdate,
};
use pending::Pending;

/// What newcomers are shown of who is here.
#[derive(Debug, Clone)]
pub enum OnlineList {
    /// Nobody knows.
    Unknown,
    /// These are online; the event is encoded once for all who are among them already.
    Names(Arc<BTreeSet<String>>, Option<Encoded>),
    /// Too many to be told.
    Many,
}

/// Takes what is heard into the log and keeps `shown` at the latest of it, until there is no more.
pub async fn relay(
    mut heard: mpsc::Receiver<PresenceUpdate>,
    broker: Broker,
    shown: watch::Sender<OnlineList>,
) {
    let mut pending = Pending::new(Instant::now());
    loop {
        let deadline_now = pending.deadline_now();
        tokio::select! {
            biased;
            () = sleep_until(deadline_now.unwrap_or_else(Instant::now)), if deadline_now.is_some() => {
                if let Some(entry) = pending.take(Instant::now()) {
                    broker.tell(entry).await;
                }
            }
            update = heard.recv() => {
                let Some(update) = update else { return };
                if let Some(entry) = hear(&mut pending, update, &shown) {
                    broker.tell(entry).await;
                }
            }
        }
    }
}

/// Takes one update in. Who types is sent at once, who is online when it is due.
fn hear(pending: &mut Pending, update: PresenceUpdate, shown: &watch::Sender<OnlineList>) -> Option<Entry> {
    match update {
        PresenceUpdate::Online { presence, .. } => pending.replace(presence.online),
        PresenceUpdate::Diff(diff) => pending.apply(diff),
        PresenceUpdate::Unknown => pending.lose(),
        PresenceUpdate::Typing(mut typing) => {
            typing.users.truncate(NAMES);
            let room = typing.room.parse().ok()?;
            return Some(Entry::Typing { room, users: typing.users });
        }
    }
    shown.send_replace(OnlineList::of(pending));
    None
}

impl OnlineList {
    fn of(pending: &Pending) -> Self {
        let Some(names) = pending.online() else { return Self::Unknown };
        if names.len() > NAMES {
            return Self::Many;
        }
        Self::Names(Arc::new(names.clone()), encode_list(names.iter().cloned()))
    }

    /// The `presence` event for a newcomer, who is here whether the roster has said so yet or not.
    pub fn to(&self, newcomer: &Username) -> Option<Encoded> {
        match self {
            Self::Unknown => broker::encode(name::PRESENCE, &broker::unknown(), None),
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
    broker::encode(name::PRESENCE, &Presence { online: online.collect() }, None)
}

#[cfg(test)]
mod tests {
    use proto::event::{PresenceDiff, Typing};

    use super::*;

    fn online(names: &[&str]) -> PresenceUpdate {
        let online = names.iter().map(ToString::to_string).collect();
        PresenceUpdate::Online {
            presence: Presence { online },
            diff: PresenceDiff { joined: vec![], left: vec![], count: 0 },
        }
    }

    fn shown(update: PresenceUpdate) -> OnlineList {
        let (sender, receiver) = watch::channel(OnlineList::Unknown);
        assert!(hear(&mut Pending::new(Instant::now()), update, &sender).is_none());
        receiver.borrow().clone()
    }

    #[test]
    fn a_newcomer_is_always_among_those_shown() {
        let event = |names: &[&str]| encode_list(names.iter().map(ToString::to_string));
        let bob: Username = "bob".parse().unwrap();
        assert_eq!(shown(online(&[])).to(&bob), event(&["bob"]));
        assert_eq!(shown(online(&["alice", "carol"])).to(&bob), event(&["alice", "bob", "carol"]));
        assert_eq!(shown(online(&["bob"])).to(&bob), event(&["bob"]));
        assert!(shown(PresenceUpdate::Unknown).to(&bob).is_some(), "a client is told that nobody knows");
        let full: Vec<String> = (0..=NAMES).map(|n| format!("u{n:03}")).collect();
        let full: Vec<&str> = full.iter().map(String::as_str).collect();
        assert_eq!(shown(online(&full)).to(&bob), None, "too many");
        assert_eq!(shown(online(&full[1..])).to(&bob), None, "one too many");
    }

    #[test]
    fn the_end_of_typing_is_told_and_a_room_without_a_name_is_not() {
        let (sender, _receiver) = watch::channel(OnlineList::Unknown);
        let mut pending = Pending::new(Instant::now());
        let mut typing = |room: &str| {
            hear(&mut pending, PresenceUpdate::Typing(Typing { users: vec![], room: room.into() }), &sender)
        };
        assert!(matches!(typing("lobby"), Some(Entry::Typing { users, .. }) if users.is_empty()));
        assert!(typing("no room").is_none());
    }
}
