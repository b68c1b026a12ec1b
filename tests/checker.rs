//! The history checker: judges what senders were told, what listeners heard and what the store holds after everything
//! that went wrong in between. Pure. Called by `durability`.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;

/// A message as anybody saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its place in its room.
    pub seq: u64,
    /// Its id.
    pub id: String,
    /// Its text; every text is sent once, as `sender/number`.
    pub text: String,
}

/// Everything one room's people witnessed.
#[derive(Debug, Default)]
pub struct Room {
    /// Texts that somebody sent, answered or not.
    pub sent: HashSet<String>,
    /// What acks promised.
    pub acked: Vec<Seen>,
    /// Per connection of a pure listener, what arrived live, in order.
    pub live: Vec<Vec<Seen>>,
    /// What the store holds, in its order.
    pub stored: Vec<Seen>,
}

impl Seen {
    /// From the payload of a `message` event or an entry of a history page.
    pub fn of(message: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let seq = message["seq"].as_u64().unwrap_or_default();
        Self { seq, id: text(&message["id"]), text: text(&message["data"]["text"]) }
    }
}

impl Room {
    /// What is wrong; empty when nothing is.
    pub fn faults(&self) -> Vec<String> {
        let checks =
            [self.holes(), self.doubles(), self.lost(), self.invented(), self.shown(), self.disorder()];
        checks.into_iter().flatten().collect()
    }

    /// Places are 1, 2, 3, ...
    fn holes(&self) -> Vec<String> {
        let places = self.stored.iter().zip(1..);
        places
            .filter(|(seen, at)| seen.seq != *at)
            .map(|(seen, at)| format!("place {at} holds {seen:?}"))
            .collect()
    }

    /// One id and one copy each.
    fn doubles(&self) -> Vec<String> {
        let (mut ids, mut texts) = (HashSet::new(), HashSet::new());
        let twice = self.stored.iter().filter(|seen| !ids.insert(&seen.id) | !texts.insert(&seen.text));
        twice.map(|seen| format!("stored twice: {seen:?}")).collect()
    }

    /// An ack means stored, there and so.
    fn lost(&self) -> Vec<String> {
        let stored = self.by_seq();
        let lost = self.acked.iter().filter(|seen| stored.get(&seen.seq) != Some(seen));
        lost.map(|seen| format!("acked {seen:?}, stored {:?}", stored.get(&seen.seq))).collect()
    }

    /// Nothing is stored that nobody sent.
    fn invented(&self) -> Vec<String> {
        let invented = self.stored.iter().filter(|seen| !self.sent.contains(&seen.text));
        invented.map(|seen| format!("nobody sent {seen:?}")).collect()
    }

    /// Every connection hears an unbroken piece of the stored order, each message once.
    fn shown(&self) -> Vec<String> {
        let stored = self.by_seq();
        let mut faults = Vec::new();
        for received in &self.live {
            let not_stored = received.iter().filter(|seen| stored.get(&seen.seq) != Some(seen));
            faults.extend(not_stored.map(|seen| format!("shown but not stored: {seen:?}")));
            let broken = received.windows(2).filter(|pair| pair[1].seq != pair[0].seq + 1);
            faults.extend(broken.map(|pair| format!("after {:?} came {:?}", pair[0], pair[1])));
        }
        faults
    }

    /// One sender's messages stand in the order sent.
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

    /// Plants one defect; the checker must name it and a healthy room must have none.
    fn finds(defect: &str, plant: impl FnOnce(&mut Room)) {
        let mut room = healthy();
        assert_eq!(room.faults(), Vec::<String>::new());
        plant(&mut room);
        let faults = room.faults();
        assert!(faults.iter().any(|fault| fault.contains(defect)), "{defect:?} is not in {faults:?}");
    }

    #[test]
    fn every_planted_defect_is_found() {
        finds("place 3 holds", |room| drop(room.stored.remove(2)));
        finds("stored twice", |room| room.stored[4].text = "alice/4".into());
        finds("stored twice", |room| room.stored[4].id = "id4".into());
        finds("acked", |room| drop(room.stored.drain(3..)));
        finds("acked", |room| room.acked[1].id = "other".into());
        finds("nobody sent", |room| room.stored[4].text = "eve/1".into());
        finds("shown but not stored", |room| room.live[1].push(seen(6)));
        finds("shown but not stored", |room| room.live[0][1].text = "alice/9".into());
        finds("came", |room| drop(room.live[1].remove(1)));
        finds("came", |room| room.live[1].insert(1, seen(3)));
        finds("came", |room| room.live[1].swap(0, 1));
        finds("out of order", |room| room.stored.swap(1, 2));
    }
}
