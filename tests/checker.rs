//! The history checker: compares the acks of senders, the messages that listeners received and the stored messages after a test with
//! faults. Does no I/O. Called by `durability` and `faults`.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;

/// A message, as a client or the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The number in its room.
    pub seq: u64,
    /// Its id.
    pub id: String,
    /// The text; every text is sent once, as `sender/number`.
    pub text: String,
}

/// All observations of one room.
#[derive(Debug, Default)]
pub struct Room {
    /// The texts that were sent, acked or not.
    pub sent: HashSet<String>,
    /// The acked messages.
    pub acked: Vec<Seen>,
    /// For each connection of a listener, the messages that arrived live, in order.
    pub live: Vec<Vec<Seen>>,
    /// The stored messages, in their order.
    pub stored: Vec<Seen>,
}

impl Seen {
    /// Parses the payload of a `message` event or an entry of a history page.
    pub fn of(message: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let seq = message["seq"].as_u64().unwrap_or_default();
        Self { seq, id: text(&message["id"]), text: text(&message["data"]["text"]) }
    }
}

impl Room {
    /// The violations that were found.
    pub fn faults(&self) -> Vec<String> {
        let checks =
            [self.gaps(), self.duplicates(), self.lost(), self.unsent(), self.live_faults(), self.disorder()];
        checks.into_iter().flatten().collect()
    }

    /// The numbers are 1, 2, 3, ...
    fn gaps(&self) -> Vec<String> {
        let numbered = self.stored.iter().zip(1..);
        numbered
            .filter(|(seen, at)| seen.seq != *at)
            .map(|(seen, at)| format!("seq {at} holds {seen:?}"))
            .collect()
    }

    /// Each message is stored once, and ids are unique.
    fn duplicates(&self) -> Vec<String> {
        let (mut ids, mut texts) = (HashSet::new(), HashSet::new());
        let twice = self.stored.iter().filter(|seen| !ids.insert(&seen.id) | !texts.insert(&seen.text));
        twice.map(|seen| format!("stored twice: {seen:?}")).collect()
    }

    /// Each acked message is stored with the acked number and id.
    fn lost(&self) -> Vec<String> {
        let stored = self.by_seq();
        let lost = self.acked.iter().filter(|seen| stored.get(&seen.seq) != Some(seen));
        lost.map(|seen| format!("acked {seen:?}, stored {:?}", stored.get(&seen.seq))).collect()
    }

    /// Each stored message was sent.
    fn unsent(&self) -> Vec<String> {
        let unsent = self.stored.iter().filter(|seen| !self.sent.contains(&seen.text));
        unsent.map(|seen| format!("never sent: {seen:?}")).collect()
    }

    /// Each connection received a range of the stored messages without gaps, each message once.
    fn live_faults(&self) -> Vec<String> {
        let stored = self.by_seq();
        let mut faults = Vec::new();
        for received in &self.live {
            let not_stored = received.iter().filter(|seen| stored.get(&seen.seq) != Some(seen));
            faults.extend(not_stored.map(|seen| format!("delivered but not stored: {seen:?}")));
            let broken = received.windows(2).filter(|pair| pair[1].seq != pair[0].seq + 1);
            faults.extend(broken.map(|pair| format!("after {:?} followed {:?}", pair[0], pair[1])));
        }
        faults
    }

    /// The messages of one sender are stored in the order of sending.
    fn disorder(&self) -> Vec<String> {
        let mut last: HashMap<&str, u64> = HashMap::new();
        let mut faults = Vec::new();
        for seen in &self.stored {
            let Some((sender, number)) = seen.text.split_once('/') else { continue };
            let number = number.parse().unwrap_or_default();
            if last.insert(sender, number).is_some_and(|before| before >= number) {
                faults.push(format!("out of order: {seen:?}"));
            }
        }
        faults
    }

    fn by_seq(&self) -> BTreeMap<u64, &Seen> {
        self.stored.iter().map(|seen| (seen.seq, seen)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(seq: u64) -> Seen {
        Seen { seq, id: format!("id{seq}"), text: format!("alice/{seq}") }
    }

    fn healthy() -> Room {
        let all: Vec<Seen> = (1..=5).map(seen).collect();
        Room {
            sent: (1..=6).map(|n| format!("alice/{n}")).collect(),
            acked: all[..4].to_vec(),
            live: vec![all[..2].to_vec(), all[2..].to_vec(), vec![]],
            stored: all,
        }
    }

    /// Plants one defect: the checker must report it, and must report nothing for a healthy room.
    fn finds(defect: &str, plant: impl FnOnce(&mut Room)) {
        let mut room = healthy();
        assert_eq!(room.faults(), Vec::<String>::new());
        plant(&mut room);
        let faults = room.faults();
        assert!(faults.iter().any(|fault| fault.contains(defect)), "{defect:?} is not in {faults:?}");
    }

    #[test]
    fn every_planted_defect_is_found() {
        finds("seq 3 holds", |room| drop(room.stored.remove(2)));
        finds("stored twice", |room| room.stored[4].text = "alice/4".into());
        finds("stored twice", |room| room.stored[4].id = "id4".into());
        finds("acked", |room| drop(room.stored.drain(3..)));
        finds("acked", |room| room.acked[1].id = "other".into());
        finds("never sent", |room| room.stored[4].text = "eve/1".into());
        finds("delivered but not stored", |room| room.live[1].push(seen(6)));
        finds("delivered but not stored", |room| room.live[0][1].text = "alice/9".into());
        finds("followed", |room| drop(room.live[1].remove(1)));
        finds("followed", |room| room.live[1].insert(1, seen(3)));
        finds("followed", |room| room.live[1].swap(0, 1));
        finds("out of order", |room| room.stored.swap(1, 2));
    }
}
