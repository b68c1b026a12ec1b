//! The one table of every way a connection can end.

/// Why a connection ended. [`CloseReason::as_str`] is the label in logs and metrics and, where the reference
/// implementation has the case, its name there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// The client closed the transport, or the connection was lost.
    TransportClose,
    /// The transport broke a rule of its protocol (WebSocket framing, overlapping polls).
    TransportError,
    /// No pong within pingTimeout of a ping.
    PingTimeout,
    /// A packet that cannot be parsed.
    ParseError,
    /// A text message that is not UTF-8.
    InvalidText,
    /// A well-formed packet where the protocol allows none (an event before CONNECT).
    ProtocolViolation,
    /// No namespace was joined within the connect timeout.
    ConnectTimeout,
    /// A frame or message over the payload limit.
    TooLarge,
    /// A packet that announces more attachments than allowed.
    TooManyAttachments,
    /// More events before the answer to CONNECT than are held.
    TooEarly,
    /// More heartbeat traffic than any client needs.
    Flood,
    /// A message began and did not end in time.
    MessageTimeout,
    /// The client does not read what it is sent: its send_queue is full or has not moved for too long.
    Slow,
    /// The client left the namespace (packet `41`).
    ClientDisconnect,
    /// The application disconnected this client from the namespace (packet `41` to the client).
    ServerDisconnect,
    /// The application closed the whole connection.
    ServerClose,
    /// The same client has come back on another connection while this one was still open.
    Superseded,
    /// Nobody could say for too long whether the client's credentials are still good.
    Unverifiable,
    /// A panic in the session or in the application's code for it.
    ServerError,
    /// The client has got other credentials, and the ones of this connection are no longer good: it should connect again.
    CredentialsReplaced,
    /// The process is draining.
    ShuttingDown,
}

impl CloseReason {
    /// The reason's label.
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
            Self::Superseded => "superseded",
            Self::Unverifiable => "session_unverifiable",
            Self::ServerError => "server error",
            Self::CredentialsReplaced => "credentials replaced",
            Self::ShuttingDown => "server shutting down",
        }
    }

    /// The WebSocket close code (RFC 6455 §7.4.1) that tells the client.
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
            | Self::Unverifiable => 1008,
            Self::TooLarge | Self::TooManyAttachments => 1009,
            Self::ServerError => 1011,
            Self::Slow => 1013,
        }
    }

    /// The reason in the WebSocket close frame. None where the reference's has none and its client's own tests expect none.
    pub(crate) fn in_frame(self) -> &'static str {
        if self == Self::TooLarge { "" } else { self.as_str() }
    }

    /// Whether the client itself ended it, by what it did or by being gone: there is nobody to tell.
    pub(crate) fn is_from_client(self) -> bool {
        !matches!(
            self,
            Self::ConnectTimeout
                | Self::ServerDisconnect
                | Self::ServerClose
                | Self::Unverifiable
                | Self::ServerError
                | Self::CredentialsReplaced
                | Self::ShuttingDown
        )
    }

    /// Whether the client is told why before the end: it still reads, and it can do better.
    pub(crate) fn is_explained(self) -> bool {
        matches!(
            self,
            Self::Flood
                | Self::TooLarge
                | Self::TooManyAttachments
                | Self::TooEarly
                | Self::ProtocolViolation
        )
    }

    /// Whether the client did what no good client does, in breaking a rule or in going beyond a limit.
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

    /// Whether a client that comes back may continue where it was: not after either side meant to leave.
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
