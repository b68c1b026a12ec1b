//! Engine.IO packets in a WebSocket text frame: one digit and an optional text (Engine.IO protocol 4, "Packet
//! types").

/// A packet that a client may send on an open transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packet<'a> {
    /// `1`: closes the session.
    Close,
    /// `2`: only valid as `2probe` on an upgrading transport.
    Ping(&'a str),
    /// `3`: answers a ping. Valid at any time.
    Pong,
    /// `4`: application data.
    Message(&'a str),
    /// `5`: completes the upgrade to the probing transport.
    Upgrade,
    /// `6`: no content.
    Noop,
    /// `b`: binary application data in base64, from clients without binary frames.
    Base64(&'a str),
}

/// The text is not a packet that a client may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

impl<'a> Packet<'a> {
    /// Parses one packet. An empty text, an unknown type, and `0` (only servers send it) are malformed.
    pub(crate) fn parse(text: &'a str) -> Result<Self, Malformed> {
        let (kind, rest) = text.split_at_checked(1).ok_or(Malformed)?;
        match (kind, rest) {
            ("1", "") => Ok(Self::Close),
            ("2", probe) => Ok(Self::Ping(probe)),
            ("3", _) => Ok(Self::Pong),
            ("4", data) => Ok(Self::Message(data)),
            ("5", "") => Ok(Self::Upgrade),
            ("6", "") => Ok(Self::Noop),
            ("b", data) => Ok(Self::Base64(data)),
            _ => Err(Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_packet_type_of_a_client_is_parsed() {
        let table = [
            ("1", Packet::Close),
            ("2", Packet::Ping("")),
            ("2probe", Packet::Ping("probe")),
            ("3", Packet::Pong),
            ("3probe", Packet::Pong),
            ("4", Packet::Message("")),
            ("42[\"a\"]", Packet::Message("2[\"a\"]")),
            ("5", Packet::Upgrade),
            ("6", Packet::Noop),
            ("bAAEC", Packet::Base64("AAEC")),
        ];
        for (text, packet) in table {
            assert_eq!(Packet::parse(text), Ok(packet), "{text}");
        }
    }

    #[test]
    fn anything_else_is_malformed() {
        for text in ["", "0", "0{}", "7", "8", "x", "é", "11", "5x", " 4"] {
            assert_eq!(Packet::parse(text), Err(Malformed), "{text}");
        }
    }
}
