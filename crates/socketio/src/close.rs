//! The table of all reasons for which a connection ends.

/// Why a connection ended. [`CloseReason::as_str`] is the label in logs and metrics. Where the reference
/// implementation has the case, the label is the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// The client closed the transport, or the connection was lost.
    TransportClose,
    /// The transport violated its protocol (WebSocket framing, overlapping polls).
    TransportError,
    /// No pong was received within pingTimeout after a ping.
    PingTimeout,
    /// A packet that cannot be parsed.
    ParseError,
    /// A text message that is not UTF-8.
    InvalidText,
    /// A well-formed packet that the protocol does not allow at this point (for example an event before
    /// CONNECT).
    ProtocolViolation,
    /// The client joined no namespace within the connect timeout.
    ConnectTimeout,
    /// A frame or message exceeds the payload limit.
    TooLarge,
    /// A packet announces more attachments than allowed.
    TooManyAttachments,
    /// More events were received before the answer to CONNECT than the server buffers.
    TooEarly,
    /// More heartbeats, CONNECTs or unexpected acks in one second than any client needs.
    Flood,
    /// A message began and was not complete within the body timeout.
    MessageTimeout,
    /// The client does not read: its send queue is full, or made no progress for too long.
    Slow,
    /// The client left the namespace (packet `41`).
    ClientDisconnect,
    /// The application disconnected the client from the namespace (packet `41` to the client).
    ServerDisconnect,
    /// The application closed the whole connection.
    ServerClose,
    /// The client has as many connections as the application allows.
    TooManyConnections,
    /// The same client opened another connection while this one was still open.
    Superseded,
    /// The application could not verify the client's credentials for too long.
    Unverifiable,
    /// A panic in the session, or in the application's code for it.
    ServerError,
    /// The client has new credentials, and those of this connection are no longer valid. The client should
    /// reconnect.
    CredentialsReplaced,
    /// The process is draining.
    ShuttingDown,
}

impl CloseReason {
    /// The label of the reason.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TransportClose => "transport close",
            Self::TransportError => "transport error",
            Self::PingTimeout => "ping timeout",
            Self::ParseError => "parse error",
            Self::InvalidText => "invalid text",
            Self::ProtocolViolation => "protocol violation",
            Self::ConnectTimeout => "connect timeout",
            Self::TooLarge => "too large",
            Self::TooManyAttachments => "too many attachments",
            Self::TooEarly => "too many events before the answer to CONNECT",
            Self::Flood => "flood",
            Self::MessageTimeout => "message timeout",
            Self::Slow => "slow",
            Self::ClientDisconnect => "client namespace disconnect",
            Self::ServerDisconnect => "server namespace disconnect",
            Self::ServerClose => "forced server close",
            Self::TooManyConnections => "too many connections",
            Self::Superseded => "superseded",
            Self::Unverifiable => "session_unverifiable",
            Self::ServerError => "server error",
            Self::CredentialsReplaced => "credentials replaced",
            Self::ShuttingDown => "server shutting down",
        }
    }

    /// The WebSocket close code (RFC 6455 §7.4.1).
    pub fn code(self) -> u16 {
        match self {
            Self::TransportClose
            | Self::ClientDisconnect
            | Self::ServerDisconnect
            | Self::ServerClose
            | Self::Superseded
            | Self::CredentialsReplaced => 1000,
            Self::ShuttingDown => 1001,
            Self::TransportError | Self::ParseError | Self::ProtocolViolation => 1002,
            Self::InvalidText => 1007,
            Self::PingTimeout
            | Self::ConnectTimeout
            | Self::TooEarly
            | Self::Flood
            | Self::MessageTimeout
            | Self::TooManyConnections
            | Self::Unverifiable => 1008,
            Self::TooLarge | Self::TooManyAttachments => 1009,
            Self::ServerError => 1011,
            Self::Slow => 1013,
        }
    }

    /// The reason text in the WebSocket close frame. Empty where the reference implementation sends no text,
    /// because the tests of its client expect an empty text.
    pub(crate) fn in_frame(self) -> &'static str {
        if self == Self::TooLarge { "" } else { self.as_str() }
    }

    /// Whether the client ended the connection, by an error of its own or by being lost. No close packet is
    /// sent then.
    pub(crate) fn is_caused_by_client(self) -> bool {
        !matches!(
            self,
            Self::ConnectTimeout
                | Self::ServerDisconnect
                | Self::ServerClose
                | Self::TooManyConnections
                | Self::Unverifiable
                | Self::ServerError
                | Self::CredentialsReplaced
                | Self::ShuttingDown
        )
    }

    /// Whether the application may send a last event before the close: the client still reads, and can act on
    /// it. `is_of_message`: the reason is a message, and not a packet that violates Engine.IO itself.
    pub(crate) fn is_announced(self, is_of_message: bool) -> bool {
        match self {
            Self::ParseError => is_of_message,
            Self::Flood
            | Self::TooLarge
            | Self::TooManyAttachments
            | Self::TooEarly
            | Self::InvalidText
            | Self::ProtocolViolation => true,
            _ => false,
        }
    }

    /// Whether the client violated the protocol or exceeded a limit. Such an end is logged at level info.
    pub(crate) fn is_misbehaviour(self) -> bool {
        matches!(
            self,
            Self::TransportError
                | Self::ParseError
                | Self::InvalidText
                | Self::ProtocolViolation
                | Self::ConnectTimeout
                | Self::TooLarge
                | Self::TooManyAttachments
                | Self::TooEarly
                | Self::Flood
                | Self::MessageTimeout
                | Self::Slow
        )
    }

    /// Whether a client may recover its session after this reason. Not if client or server ended it on
    /// purpose.
    pub fn is_recoverable(self) -> bool {
        matches!(
            self,
            Self::TransportClose
                | Self::TransportError
                | Self::PingTimeout
                | Self::MessageTimeout
                | Self::Slow
                | Self::Superseded
                | Self::Unverifiable
                | Self::ServerError
                | Self::CredentialsReplaced
                | Self::ShuttingDown
        )
    }
}
