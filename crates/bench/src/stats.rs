//! Statistics of a group of clients by phase: ack times and errors. Used by [`super::loud`].

use std::{cell::Cell, collections::HashMap, rc::Rc, time::Instant};

/// A phase of the scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Messages sent now are not measured.
    Between,
    /// Only the quiet rooms send.
    Base,
    /// The loud room sends too.
    Loud,
}

/// The statistics of one group of clients.
#[derive(Debug)]
pub struct PhaseStats {
    start: Instant,
    phase: Rc<Cell<Phase>>,
    /// By client and ack id: the send time and phase.
    sent: HashMap<(usize, u64), (Instant, Phase)>,
    /// Ack times in the base phases, in microseconds, sorted by [`PhaseStats::finished`].
    pub base: Vec<u32>,
    /// Ack times in the loud phases.
    pub loud: Vec<u32>,
    /// Refused messages.
    pub refused: u64,
    /// Received messages.
    pub received: u64,
    /// Connections that ended.
    pub ended: usize,
}

impl PhaseStats {
    /// Empty statistics. `phase` is read at each send.
    pub fn new(phase: Rc<Cell<Phase>>) -> Self {
        Self {
            start: Instant::now(),
            phase,
            sent: HashMap::new(),
            base: Vec::new(),
            loud: Vec::new(),
            refused: 0,
            received: 0,
            ended: 0,
        }
    }

    /// Sorts the ack times for the report.
    pub fn finished(mut self) -> Self {
        self.base.sort_unstable();
        self.loud.sort_unstable();
        self
    }

    /// Records a send. Returns the ack id.
    pub fn record_send(&mut self, client: usize) -> u64 {
        let ack = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.sent.insert((client, ack), (Instant::now(), self.phase.get()));
        ack
    }

    /// Records a packet that a client received.
    pub fn record(&mut self, client: usize, packet: &[u8]) {
        let Some(ack) = packet.strip_prefix(b"43") else {
            self.received += u64::from(packet.starts_with(b"42[\"message\""));
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

    /// The ratio of the p99 of the loud phases to that of the base phases.
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
        let mut stats = PhaseStats::new(phase.clone());
        let base = stats.record_send(1);
        phase.set(Phase::Loud);
        let (loud, refused) = (stats.record_send(2), stats.record_send(3));
        phase.set(Phase::Between);
        let between = stats.record_send(4);
        for (client, ack) in [(1, base), (1, base), (2, loud), (4, between), (5, loud)] {
            stats.record(client, format!(r#"43{ack}[{{"ok":true,"id":"a","seq":1}}]"#).as_bytes());
        }
        stats.record(3, format!(r#"43{refused}[{{"ok":false}}]"#).as_bytes());
        stats.record(1, br#"42["message",{}]"#);
        let stats = stats.finished();
        assert_eq!((stats.base.len(), stats.loud.len(), stats.refused, stats.received), (1, 1, 1, 1));
    }
}
