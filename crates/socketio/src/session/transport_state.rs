//! What carries a session at the moment, pure: a WebSocket, or long-polling requests that may be about to give way to one
//! (Engine.IO protocol 4, "Upgrade"). Driven by [`super::Session`].

/// One WebSocket among all of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PipeId(pub(crate) u64);

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TransportState {
    /// Everything goes through this pipe.
    WebSocket(PipeId),
    /// At most one GET waits and one POST runs; a pipe may be probing.
    Polling { get: bool, post: bool, probe: Option<Probe> },
}

/// A WebSocket that has not taken over yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Probe {
    pub(crate) pipe: PipeId,
    /// Whether its `2probe` was answered.
    pub(crate) answered: bool,
}

/// What a pipe is to the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PipeRole {
    /// It carries the session.
    Active,
    /// It probes.
    Probing,
    /// Neither, or not any more.
    Unrelated,
}

/// What a probing pipe's text means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProbeAction {
    /// Response it.
    Response,
    /// It carries the session from now on.
    Upgrade,
    /// It makes no sense: close that pipe.
    Close,
}

/// A request that does not fit the transport's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TransportConflict {
    /// The session lives on another transport, and is unharmed.
    WrongTransport,
    /// Two of a kind at once: the session ends.
    Overlap,
}

impl TransportState {
    /// A new session over long-polling.
    pub(crate) const POLLING: Self = Self::Polling { get: false, post: false, probe: None };

    /// What `pipe` is to the session.
    pub(crate) fn role(&self, pipe: PipeId) -> PipeRole {
        match self {
            Self::WebSocket(own) if *own == pipe => PipeRole::Active,
            Self::Polling { probe: Some(probe), .. } if probe.pipe == pipe => PipeRole::Probing,
            _ => PipeRole::Unrelated,
        }
    }

    /// A GET came and waits from now on.
    pub(crate) fn start_get(&mut self) -> Result<(), TransportConflict> {
        match self {
            Self::WebSocket(_) => Err(TransportConflict::WrongTransport),
            Self::Polling { get, .. } => start(get),
        }
    }

    /// The GET that waited was answered.
    pub(crate) fn end_get(&mut self) {
        if let Self::Polling { get, .. } = self {
            *get = false;
        }
    }

    /// A POST came; its body is on its way.
    pub(crate) fn start_post(&mut self) -> Result<(), TransportConflict> {
        match self {
            Self::WebSocket(_) => Err(TransportConflict::WrongTransport),
            Self::Polling { post, .. } => start(post),
        }
    }

    /// The POST that ran is over.
    pub(crate) fn end_post(&mut self) {
        if let Self::Polling { post, .. } = self {
            *post = false;
        }
    }

    /// A WebSocket wants to probe; one at a time may.
    pub(crate) fn start_probe(&mut self, pipe: PipeId) -> Result<(), TransportConflict> {
        match self {
            Self::Polling { probe: probe @ None, .. } => {
                *probe = Some(Probe { pipe, answered: false });
                Ok(())
            }
            _ => Err(TransportConflict::WrongTransport),
        }
    }

    /// The probing pipe input something.
    pub(crate) fn receive_probe(&mut self, text: &str) -> ProbeAction {
        let Self::Polling { probe: Some(probe), .. } = self else { return ProbeAction::Close };
        match text {
            "2probe" => {
                probe.answered = true;
                ProbeAction::Response
            }
            "5" => {
                *self = Self::WebSocket(probe.pipe);
                ProbeAction::Upgrade
            }
            _ => ProbeAction::Close,
        }
    }

    /// The probing pipe is gone; the session goes on polling, and another may probe.
    pub(crate) fn end_probe(&mut self) {
        if let Self::Polling { probe, .. } = self {
            *probe = None;
        }
    }

    /// Whether a GET that waits must be released, so that the client can switch.
    pub(crate) fn must_release_get(&self) -> bool {
        matches!(self, Self::Polling { get: true, probe: Some(Probe { answered: true, .. }), .. })
    }

    /// The transport's name as clients know it.
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
    fn one_get_and_one_post_at_a_time() {
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
    fn a_probe_takes_over() {
        let mut transport = TransportState::POLLING;
        assert_eq!(transport.start_get(), Ok(()));
        assert_eq!(transport.start_probe(A), Ok(()));
        assert_eq!(transport.role(A), PipeRole::Probing);
        assert!(!transport.must_release_get());
        assert_eq!(transport.receive_probe("2probe"), ProbeAction::Response);
        assert!(transport.must_release_get());
        assert_eq!(transport.receive_probe("5"), ProbeAction::Upgrade);
        assert_eq!(transport.role(A), PipeRole::Active);
        assert_eq!(transport.start_get(), Err(TransportConflict::WrongTransport));
        assert_eq!(transport.start_probe(B), Err(TransportConflict::WrongTransport));
    }

    #[test]
    fn a_second_probe_is_turned_away_and_a_failed_one_makes_room() {
        let mut transport = TransportState::POLLING;
        assert_eq!(transport.start_probe(A), Ok(()));
        assert_eq!(transport.start_probe(B), Err(TransportConflict::WrongTransport));
        assert_eq!(transport.role(B), PipeRole::Unrelated);
        assert_eq!(transport.receive_probe("2other"), ProbeAction::Close);
        transport.end_probe();
        assert_eq!(transport.start_probe(B), Ok(()));
    }
}
