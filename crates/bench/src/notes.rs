//! What a group of clients notes in each phase: how long acks took, and what went wrong. Pure but for the clock. Written to by
//! the clients of [`super::loud`], read by its report.

use std::{cell::Cell, collections::HashMap, rc::Rc, time::Instant};

/// Which phase it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// What is sent now is not measured.
    Between,
    /// Only quiet rooms.
    Base,
    /// The loud room, too.
    Loud,
}

/// What a group of clients has sent and was answered.
#[derive(Debug)]
pub struct Notes {
    start: Instant,
    phase: Rc<Cell<Phase>>,
    /// Per client and ack: when the message was sent, and in which phase.
    sent: HashMap<(usize, u64), (Instant, Phase)>,
    /// How long acks took in the base phases, in microseconds, sorted once [`Notes::finished`].
    pub base: Vec<u32>,
    /// The same in the loud phases.
    pub loud: Vec<u32>,
    /// Messages that were refused.
    pub refused: u64,
    /// Messages that arrived.
    pub heard: u64,
    /// Connections that ended.
    pub ended: usize,
}

impl Notes {
    /// Nothing was sent yet; the phase is whatever `phase` says at the time.
    pub fn new(phase: Rc<Cell<Phase>>) -> Self {
        Self {
            start: Instant::now(),
            phase,
            sent: HashMap::new(),
            base: Vec::new(),
            loud: Vec::new(),
            refused: 0,
            heard: 0,
            ended: 0,
        }
    }

    /// Sorted, for the report.
    pub fn finished(mut self) -> Self {
        self.base.sort_unstable();
        self.loud.sort_unstable();
        self
    }

    /// A client sends now; answers with the id of the ack.
    pub fn sends(&mut self, client: usize) -> u64 {
        let ack = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.sent.insert((client, ack), (Instant::now(), self.phase.get()));
        ack
    }

    /// A packet arrived at a client.
    pub fn hears(&mut self, client: usize, packet: &[u8]) {
        let Some(ack) = packet.strip_prefix(b"43") else {
            self.heard += u64::from(packet.starts_with(b"42[\"message\""));
            return;
        };
        let digits = ack.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let id = std::str::from_utf8(&ack[..digits]).ok().and_then(|id| id.parse().ok());
        let Some((sent, phase)) = id.and_then(|id| self.sent.remove(&(client, id))) else { return };
        if !ack[digits..].starts_with(b"[{\"ok\":true") {
            self.refused += 1;
            return;
        }
        let took = u32::try_from(sent.elapsed().as_micros()).unwrap_or(u32::MAX);
        match phase {
            Phase::Between => {}
            Phase::Base => self.base.push(took),
            Phase::Loud => self.loud.push(took),
        }
    }

    /// The p99 of the loud phases as a multiple of that of the base phases.
    pub fn ratio(&self) -> f64 {
        let p99 =
            |sorted: &[u32]| f64::from(sorted.get(sorted.len() * 99 / 100).copied().unwrap_or_default());
        p99(&self.loud) / p99(&self.base).max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acks_count_in_the_phase_in_which_their_message_was_sent() {
        let phase = Rc::new(Cell::new(Phase::Base));
        let mut notes = Notes::new(phase.clone());
        let base = notes.sends(1);
        phase.set(Phase::Loud);
        let (loud, refused) = (notes.sends(2), notes.sends(3));
        phase.set(Phase::Between);
        let between = notes.sends(4);
        for (client, ack) in [(1, base), (1, base), (2, loud), (4, between), (5, loud)] {
            notes.hears(client, format!(r#"43{ack}[{{"ok":true,"id":"a","seq":1}}]"#).as_bytes());
        }
        notes.hears(3, format!(r#"43{refused}[{{"ok":false}}]"#).as_bytes());
        notes.hears(1, br#"42["message",{}]"#);
        let notes = notes.finished();
        assert_eq!((notes.base.len(), notes.loud.len(), notes.refused, notes.heard), (1, 1, 1, 1));
    }
}
