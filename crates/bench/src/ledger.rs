//! Who heard which message: a bit for each, so that a lost, a doubled and a late delivery are told apart. Pure. Written to
//! by the scenarios, read by `report`.

/// What is marked in a message's text so that a listener knows it: `b/SENDER/NUMBER/MICROS`, then `/`.
pub const MARK: &[u8] = b"\"text\":\"b/";

/// A message as its text says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marked {
    /// Which sender.
    pub sender: usize,
    /// The sender's how manieth, from 0.
    pub number: usize,
    /// When it was sent, in microseconds since the start.
    pub sent: u64,
}

/// One listener's account.
#[derive(Debug, Clone)]
pub struct Account {
    /// A bit per message, sender by sender.
    heard: Vec<u64>,
    /// Per sender, one more than the highest number heard.
    next: Vec<usize>,
    /// How many messages one sender sends at most.
    per_sender: usize,
    /// Deliveries, the first of each message.
    pub deliveries: u64,
    /// Deliveries of what had been delivered.
    pub doubled: u64,
    /// Deliveries after a later one of the same sender.
    pub late: u64,
}

impl Marked {
    /// From a `message` packet; none when it is something else or the message is not one of ours.
    pub fn find(packet: &[u8]) -> Option<Self> {
        let at = packet.windows(MARK.len()).position(|window| window == MARK)? + MARK.len();
        let mut fields = packet[at..].split(|byte| *byte == b'/');
        let mut number =
            || fields.next().and_then(|field| std::str::from_utf8(field).ok()?.parse::<u64>().ok());
        let (sender, count, sent) = (number()?, number()?, number()?);
        Some(Self { sender: usize::try_from(sender).ok()?, number: usize::try_from(count).ok()?, sent })
    }
}

impl Account {
    /// Nothing heard yet.
    pub fn new(senders: usize, per_sender: usize) -> Self {
        let heard = vec![0; (senders * per_sender).div_ceil(64)];
        Self { heard, next: vec![0; senders], per_sender, deliveries: 0, doubled: 0, late: 0 }
    }

    /// Writes down one delivery; true when it is the first of its message.
    pub fn hears(&mut self, message: Marked) -> bool {
        let Some(next) = self.next.get_mut(message.sender).filter(|_| message.number < self.per_sender)
        else {
            return false;
        };
        let bit = message.sender * self.per_sender + message.number;
        let (word, mask) = (&mut self.heard[bit / 64], 1 << (bit % 64));
        if *word & mask != 0 {
            self.doubled += 1;
            return false;
        }
        *word |= mask;
        self.deliveries += 1;
        self.late += u64::from(message.number < *next);
        *next = (*next).max(message.number + 1);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(sender: usize, number: usize) -> Marked {
        Marked { sender, number, sent: 0 }
    }

    #[test]
    fn lost_doubled_and_late_deliveries_are_told_apart() {
        let mut account = Account::new(2, 100);
        let heard = [(0, 0), (1, 0), (0, 2), (0, 1), (0, 2), (1, 99), (1, 100), (2, 0)];
        let first: Vec<bool> =
            heard.iter().map(|(sender, number)| account.hears(message(*sender, *number))).collect();
        assert_eq!(first, [true, true, true, true, false, true, false, false]);
        assert_eq!((account.deliveries, account.doubled, account.late), (5, 1, 1));
    }

    #[test]
    fn a_message_is_known_by_its_text() {
        let packet = br#"42["message",{"id":"x","room":"lobby","data":{"text":"b/3/17/123456/pad"},"from":"b/9/9/9/"}]"#;
        assert_eq!(Marked::find(packet), Some(Marked { sender: 3, number: 17, sent: 123_456 }));
        assert_eq!(Marked::find(br#"42["message",{"data":{"text":"hello"}}]"#), None);
        assert_eq!(Marked::find(br#"42["message",{"data":{"text":"b/1/x/"}}]"#), None);
    }
}
