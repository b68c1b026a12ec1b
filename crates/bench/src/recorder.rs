//! The recorder of a run: the deliveries, acks and latencies of all clients. Used by `lobby` and `slow`.

use std::time::{Duration, Instant};

use crate::{
    delivery::{Deliveries, Marker},
    process::Usage,
    report::Report,
};

/// The size of a run. Client `n` is sender `n`.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// The number of clients.
    pub clients: usize,
    /// The number of senders among them.
    pub senders: usize,
    /// The number of messages per sender.
    pub per_sender: usize,
}

/// Shared by all clients, which run on one thread.
pub struct Recorder {
    size: Size,
    start: Instant,
    deliveries: Vec<Deliveries>,
    latencies: Vec<u32>,
    acks: Vec<u32>,
    accepted: u64,
    refused: u64,
    dropped: usize,
    /// Additional text of each message.
    filler: String,
    /// When the last packet of any kind arrived.
    last: Instant,
    /// Per sender: the send time of each message, in microseconds.
    sent: Vec<Vec<u64>>,
}

impl Size {
    /// The number of messages of the run.
    pub fn messages(self) -> u64 {
        (self.per_sender * self.senders) as u64
    }
}

impl Recorder {
    /// An empty recorder. The run starts now.
    pub fn new(size: Size) -> Self {
        let now = Instant::now();
        Self {
            size,
            start: now,
            deliveries: vec![Deliveries::new(size.senders, size.per_sender); size.clients],
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

    /// An empty recorder of messages with this many additional bytes.
    pub fn with_filler(size: Size, bytes: usize) -> Self {
        Self { filler: ".".repeat(bytes), ..Self::new(size) }
    }

    /// The packet of one message with its marker. The ack id is the message's number.
    pub fn record_send(&mut self, sender: usize, number: usize) -> String {
        let now = self.micros();
        self.sent[sender].push(now);
        format!(
            r#"42{number}["message",{{"text":"b/{sender}/{number}/{now}/ is one message of this bench{}"}}]"#,
            self.filler
        )
    }

    /// Records a packet that a client received.
    pub fn record(&mut self, client: usize, packet: &[u8]) {
        self.last = Instant::now();
        match packet {
            [b'4', b'2', ..] => {
                let Some(message) = Marker::find(packet) else { return };
                if self.deliveries[client].record(message) {
                    self.latencies.push(self.since(message.sent));
                }
            }
            [b'4', b'3', ack @ ..] => self.answered(client, ack),
            _ => {}
        }
    }

    /// Records the end of a connection.
    pub fn record_disconnect(&mut self) {
        self.dropped += 1;
    }

    /// The time since the last packet.
    pub fn quiet(&self) -> Duration {
        self.last.elapsed()
    }

    /// Whether every message is acknowledged and delivered to all clients.
    pub fn is_complete(&self) -> bool {
        let received: u64 = self.deliveries.iter().map(|client| client.deliveries).sum();
        self.accepted + self.refused == self.size.messages() && received == self.expected()
    }

    /// The report of the run.
    pub fn report(
        &mut self,
        usage: Option<(Usage, Usage)>,
        send_time: Duration,
        limit: Option<u64>,
    ) -> Report {
        self.latencies.sort_unstable();
        self.acks.sort_unstable();
        let sum = |part: fn(&Deliveries) -> u64| self.deliveries.iter().map(part).sum();
        Report {
            clients: self.size.clients,
            dropped: self.dropped,
            accepted: self.accepted,
            refused: self.size.messages() - self.accepted,
            expected: self.expected(),
            received: sum(|client| client.deliveries),
            duplicates: sum(|client| client.duplicates),
            out_of_order: sum(|client| client.out_of_order),
            latencies: std::mem::take(&mut self.latencies),
            acks: std::mem::take(&mut self.acks),
            usage,
            send_time,
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

    /// Every client receives all messages except its own.
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
    fn a_run_is_complete_when_all_is_acknowledged_and_delivered() {
        let mut recorder = Recorder::new(Size { clients: 3, senders: 1, per_sender: 2 });
        let first = recorder.record_send(0, 0).replacen("420[", "42[", 1);
        let second = recorder.record_send(0, 1).replacen("421[", "42[", 1);
        for packet in [&first, &second] {
            recorder.record(1, packet.as_bytes());
        }
        recorder.record(2, second.as_bytes());
        recorder.record(0, br#"430[{"ok":true,"id":"a","seq":1}]"#);
        recorder.record(0, br#"431[{"ok":true,"id":"b","seq":2}]"#);
        assert!(!recorder.is_complete(), "client 2 has not received the first message");
        recorder.record(2, first.as_bytes());
        assert!(recorder.is_complete());
        let report = recorder.report(None, Duration::from_secs(1), None);
        assert_eq!(report.failures(), ["1 out of order"]);
        assert_eq!((report.latencies.len(), report.acks.len()), (4, 2));
    }
}
