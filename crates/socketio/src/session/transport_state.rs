//! The transport of a session, pure: a WebSocket, or long-polling requests with an optional probing WebSocket
//! (Engine.IO protocol 4, "Upgrade"). Driven by [`super::Session`].

/// The id of a pipe, unique in the process. A pipe is the actor that reads one WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PipeId(pub(crate) u64);

/// The current transport and its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TransportState {
    /// All packets are sent over this pipe.
    WebSocket(PipeId),
    /// Long-polling. At most one GET and one POST are in progress. A pipe may probe.
    Polling { get: bool, post: bool, probe: Option<Probe> },
}

/// A WebSocket that has not completed the upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Probe {
    pub(crate) pipe: PipeId,
    /// Whether its `2probe` was answered.
    pub(crate) answered: bool,
}

/// The role of a pipe in a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PipeRole {
    /// It is the session's transport.
    Active,
    /// It probes for an upgrade.
    Probing,
    /// The session does not use it, or does not use it any longer.
    Unrelated,
}

/// The action for a text from a probing pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProbeAction {
    /// Answer it with `3probe`.
    Answer,
    /// The pipe is the session's transport from now on.
    Upgrade,
    /// The text is invalid: close the pipe.
    Close,
}

/// A request that conflicts with the transport's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TransportConflict {
    /// The session uses another transport. The session is not affected.
    WrongTransport,
    /// Two requests of the same kind at once. The session ends.
    Overlap,
}

impl TransportState {
    /// The state of a new long-polling session.
    pub(crate) const POLLING: Self = Self::Polling { get: false, post: false, probe: None };

    /// The role of `pipe`.
    pub(crate) fn role(&self, pipe: PipeId) -> PipeRole {
        match self {
            Self::WebSocket(active) if *active == pipe => PipeRole::Active,
            Self::Polling { probe: Some(probe), .. } if probe.pipe == pipe => PipeRole::Probing,
            _ => PipeRole::Unrelated,
        }
    }

    /// A GET begins.
    pub(crate) fn start_get(&mut self) -> Result<(), TransportConflict> {
        match self {
            Self::WebSocket(_) => Err(TransportConflict::WrongTransport),
            Self::Polling { get, .. } => start(get),
        }
    }

    /// The pending GET was answered.
    pub(crate) fn end_get(&mut self) {
        if let Self::Polling { get, .. } = self {
            *get = false;
        }
    }

    /// A POST begins.
    pub(crate) fn start_post(&mut self) -> Result<(), TransportConflict> {
        match self {
            Self::WebSocket(_) => Err(TransportConflict::WrongTransport),
            Self::Polling { post, .. } => start(post),
        }
    }

    /// The POST is complete.
    pub(crate) fn end_post(&mut self) {
        if let Self::Polling { post, .. } = self {
            *post = false;
        }
    }

    /// A WebSocket begins to probe. Only one may probe at a time.
    pub(crate) fn start_probe(&mut self, pipe: PipeId) -> Result<(), TransportConflict> {
        match self {
            Self::Polling { probe: probe @ None, .. } => {
                *probe = Some(Probe { pipe, answered: false });
                Ok(())
            }
            _ => Err(TransportConflict::WrongTransport),
        }
    }

    /// The probing pipe received a text.
    pub(crate) fn receive_probe(&mut self, text: &str) -> ProbeAction {
        let Self::Polling { probe: Some(probe), .. } = self else { return ProbeAction::Close };
        match text {
            "2probe" => {
                probe.answered = true;
                ProbeAction::Answer
            }
            "5" => {
                *self = Self::WebSocket(probe.pipe);
                ProbeAction::Upgrade
            }
            _ => ProbeAction::Close,
        }
    }

    /// The probing pipe is closed. The session stays on long-polling, and another pipe may probe.
    pub(crate) fn end_probe(&mut self) {
        if let Self::Polling { probe, .. } = self {
            *probe = None;
        }
    }

    /// Whether a pending GET must be released so that the client can upgrade.
    pub(crate) fn must_release_get(&self) -> bool {
        matches!(self, Self::Polling { get: true, probe: Some(Probe { answered: true, .. }), .. })
    }

    /// The transport's name in the protocol.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::WebSocket(_) => "websocket",
            Self::Polling { .. } => "polling",
        }
    }
}

fn start(running: &mut bool) -> Result<(), TransportConflict> {
    if std::mem::replace(running, true) { Err(TransportConflict::Overlap) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: PipeId = PipeId(1);
    const B: PipeId = PipeId(2);

    #[test]
    fn one_get_and_one_post_are_allowed_at_a_time() {
        let mut transport = TransportState::POLLING;
        assert_eq!(transport.start_get(), Ok(()));
        assert_eq!(transport.start_post(), Ok(()));
        assert_eq!(transport.start_get(), Err(TransportConflict::Overlap));
        assert_eq!(transport.start_post(), Err(TransportConflict::Overlap));
        transport.end_get();
        transport.end_post();
        assert_eq!(transport.start_get(), Ok(()));
        assert_eq!(transport.start_post(), Ok(()));
    }

    #[test]
    fn a_probe_completes_the_upgrade() {
        let mut transport = TransportState::POLLING;
        assert_eq!(transport.start_get(), Ok(()));
        assert_eq!(transport.start_probe(A), Ok(()));
        assert_eq!(transport.role(A), PipeRole::Probing);
        assert!(!transport.must_release_get());
        assert_eq!(transport.receive_probe("2probe"), ProbeAction::Answer);
        assert!(transport.must_release_get());
        assert_eq!(transport.receive_probe("5"), ProbeAction::Upgrade);
        assert_eq!(transport.role(A), PipeRole::Active);
        assert_eq!(transport.start_get(), Err(TransportConflict::WrongTransport));
        assert_eq!(transport.start_probe(B), Err(TransportConflict::WrongTransport));
    }

    #[test]
    fn a_second_probe_is_refused_until_the_first_has_failed() {
        let mut transport = TransportState::POLLING;
        assert_eq!(transport.start_probe(A), Ok(()));
        assert_eq!(transport.start_probe(B), Err(TransportConflict::WrongTransport));
        assert_eq!(transport.role(B), PipeRole::Unrelated);
        assert_eq!(transport.receive_probe("2other"), ProbeAction::Close);
        transport.end_probe();
        assert_eq!(transport.start_probe(B), Ok(()));
    }
}
