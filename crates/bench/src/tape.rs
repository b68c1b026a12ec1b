//! What all clients of a run write down together: deliveries, acks, times. Written by the clients of `lobby` and `slow`, which
//! make their reports of it.

use std::time::{Duration, Instant};

use crate::{
    ledger::{Account, Marked},
    process::Usage,
    report::Report,
};

/// The size of a run. Client `n` is sender `n`.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// How many clients listen.
    pub clients: usize,
    /// How many of them talk.
    pub senders: usize,
    /// How many messages each of those sends.
    pub per_sender: usize,
}

/// The notes. All clients live on one thread, so a cell is enough to share it.
pub struct Tape {
    size: Size,
    start: Instant,
    accounts: Vec<Account>,
    latencies: Vec<u32>,
    acks: Vec<u32>,
    accepted: u64,
    refused: u64,
    dropped: usize,
    /// What makes the messages longer.
    filler: String,
    /// When the last packet came, of any kind.
    last: Instant,
    /// Per sender, when each message went out, in microseconds.
    sent: Vec<Vec<u64>>,
}

impl Size {
    /// All messages of the run.
    pub fn messages(self) -> u64 {
        (self.per_sender * self.senders) as u64
    }
}

impl Tape {
    /// An empty tape; time starts now.
    pub fn new(size: Size) -> Self {
        let now = Instant::now();
        Self {
            size,
            start: now,
            accounts: vec![Account::new(size.senders, size.per_sender); size.clients],
            latencies: Vec::with_capacity(size.clients * size.senders * size.per_sender),
            acks: Vec::new(),
            accepted: 0,
            refused: 0,
            dropped: 0,
            filler: String::new(),
            last: now,
            sent: vec![Vec::new(); size.senders],
        }
    }

    /// An empty tape of messages that are this many bytes longer.
    pub fn with_filler(size: Size, bytes: usize) -> Self {
        Self { filler: ".".repeat(bytes), ..Self::new(size) }
    }

    /// The packet of one message, marked with its sender, number and time. Its ack id is its number.
    pub fn sends(&mut self, sender: usize, number: usize) -> String {
        let now = self.micros();
        self.sent[sender].push(now);
        format!(
            r#"42{number}["message",{{"text":"b/{sender}/{number}/{now}/ is how I count what you hear{}"}}]"#,
            self.filler
        )
    }

    /// A packet arrived at a client.
    pub fn hears(&mut self, client: usize, packet: &[u8]) {
        self.last = Instant::now();
        match packet {
            [b'4', b'2', ..] => {
                let Some(message) = Marked::find(packet) else { return };
                if self.accounts[client].hears(message) {
                    self.latencies.push(self.since(message.sent));
                }
            }
            [b'4', b'3', ack @ ..] => self.answered(client, ack),
            _ => {}
        }
    }

    /// A client's connection ended.
    pub fn loses_one(&mut self) {
        self.dropped += 1;
    }

    /// How long nothing has arrived anywhere.
    pub fn quiet(&self) -> Duration {
        self.last.elapsed()
    }

    /// Whether every message was answered and heard by all.
    pub fn is_complete(&self) -> bool {
        let heard: u64 = self.accounts.iter().map(|account| account.deliveries).sum();
        self.accepted + self.refused == self.size.messages() && heard == self.expected()
    }

    /// The verdict's material.
    pub fn report(&mut self, usage: Option<(Usage, Usage)>, talked: Duration, limit: Option<u64>) -> Report {
        self.latencies.sort_unstable();
        self.acks.sort_unstable();
        let sum = |part: fn(&Account) -> u64| self.accounts.iter().map(part).sum();
        Report {
            clients: self.size.clients,
            dropped: self.dropped,
            accepted: self.accepted,
            refused: self.size.messages() - self.accepted,
            expected: self.expected(),
            received: sum(|account| account.deliveries),
            doubled: sum(|account| account.doubled),
            late: sum(|account| account.late),
            latencies: std::mem::take(&mut self.latencies),
            acks: std::mem::take(&mut self.acks),
            usage,
            talked,
            limit,
        }
    }

    fn answered(&mut self, sender: usize, ack: &[u8]) {
        if !ack.windows(9).any(|window| window == b"\"ok\":true") {
            self.refused += 1;
            return;
        }
        self.accepted += 1;
        let digits = ack.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let id = std::str::from_utf8(&ack[..digits]).ok().and_then(|id| id.parse::<usize>().ok());
        if let Some(sent) = id.and_then(|id| self.sent.get(sender)?.get(id)) {
            self.acks.push(self.since(*sent));
        }
    }

    /// Everybody hears everything but what they said themselves.
    fn expected(&self) -> u64 {
        self.accepted * (self.size.clients as u64 - 1)
    }

    fn micros(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn since(&self, micros: u64) -> u32 {
        u32::try_from(self.micros().saturating_sub(micros)).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_complete_when_all_is_answered_and_heard() {
        let mut tape = Tape::new(Size { clients: 3, senders: 1, per_sender: 2 });
        let first = tape.sends(0, 0).replacen("420[", "42[", 1);
        let second = tape.sends(0, 1).replacen("421[", "42[", 1);
        for packet in [&first, &second] {
            tape.hears(1, packet.as_bytes());
        }
        tape.hears(2, second.as_bytes());
        tape.hears(0, br#"430[{"ok":true,"id":"a","seq":1}]"#);
        tape.hears(0, br#"431[{"ok":true,"id":"b","seq":2}]"#);
        assert!(!tape.is_complete(), "client 2 has not heard the first message");
        tape.hears(2, first.as_bytes());
        assert!(tape.is_complete());
        let report = tape.report(None, Duration::from_secs(1), None);
        assert_eq!(report.faults(), ["1 out of order"]);
        assert_eq!((report.latencies.len(), report.acks.len()), (4, 2));
    }
}
