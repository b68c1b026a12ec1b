//! The deliveries of one client, one bit per message: detects lost, duplicate and out-of-order deliveries.
//! Pure.

/// The start of the marker in a message's text. The marker is `b/SENDER/NUMBER/MICROS/`.
pub const MARK: &[u8] = b"\"text\":\"b/";

/// The parsed marker of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marker {
    /// The index of the sender.
    pub sender: usize,
    /// The number of the message among those of the sender, from 0.
    pub number: usize,
    /// The send time, in microseconds since the start.
    pub sent: u64,
}

/// The deliveries to one client.
#[derive(Debug, Clone)]
pub struct Deliveries {
    /// One bit per message, grouped by sender.
    received: Vec<u64>,
    /// Per sender: the highest number received, plus one.
    next: Vec<usize>,
    /// The largest number of messages per sender.
    per_sender: usize,
    /// Distinct messages received.
    pub deliveries: u64,
    /// Duplicate deliveries.
    pub duplicates: u64,
    /// Deliveries after a later message of the same sender.
    pub out_of_order: u64,
}

impl Marker {
    /// Parses the marker of a `message` packet. `None` for other packets and unmarked messages.
    pub fn find(packet: &[u8]) -> Option<Self> {
        let at = packet.windows(MARK.len()).position(|window| window == MARK)? + MARK.len();
        let mut fields = packet[at..].split(|byte| *byte == b'/');
        let mut number =
            || fields.next().and_then(|field| std::str::from_utf8(field).ok()?.parse::<u64>().ok());
        let (sender, count, sent) = (number()?, number()?, number()?);
        Some(Self { sender: usize::try_from(sender).ok()?, number: usize::try_from(count).ok()?, sent })
    }
}

impl Deliveries {
    /// No deliveries.
    pub fn new(senders: usize, per_sender: usize) -> Self {
        let received = vec![0; (senders * per_sender).div_ceil(64)];
        Self { received, next: vec![0; senders], per_sender, deliveries: 0, duplicates: 0, out_of_order: 0 }
    }

    /// Records a delivery. Returns true for the first delivery of a message.
    pub fn record(&mut self, message: Marker) -> bool {
        let Some(next) = self.next.get_mut(message.sender).filter(|_| message.number < self.per_sender)
        else {
            return false;
        };
        let bit = message.sender * self.per_sender + message.number;
        let (word, mask) = (&mut self.received[bit / 64], 1 << (bit % 64));
        if *word & mask != 0 {
            self.duplicates += 1;
            return false;
        }
        *word |= mask;
        self.deliveries += 1;
        self.out_of_order += u64::from(message.number < *next);
        *next = (*next).max(message.number + 1);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(sender: usize, number: usize) -> Marker {
        Marker { sender, number, sent: 0 }
    }

    #[test]
    fn lost_duplicate_and_out_of_order_deliveries_are_distinguished() {
        let mut client = Deliveries::new(2, 100);
        let received = [(0, 0), (1, 0), (0, 2), (0, 1), (0, 2), (1, 99), (1, 100), (2, 0)];
        let first: Vec<bool> =
            received.iter().map(|(sender, number)| client.record(message(*sender, *number))).collect();
        assert_eq!(first, [true, true, true, true, false, true, false, false]);
        assert_eq!((client.deliveries, client.duplicates, client.out_of_order), (5, 1, 1));
    }

    #[test]
    fn a_message_is_identified_by_its_marker() {
        let packet = br#"42["message",{"id":"x","room":"lobby","data":{"text":"b/3/17/123456/pad"},"from":"b/9/9/9/"}]"#;
        assert_eq!(Marker::find(packet), Some(Marker { sender: 3, number: 17, sent: 123_456 }));
        assert_eq!(Marker::find(br#"42["message",{"data":{"text":"hello"}}]"#), None);
        assert_eq!(Marker::find(br#"42["message",{"data":{"text":"b/1/x/"}}]"#), None);
    }
}
