//! What carries a session at the moment, pure: a WebSocket, or long-polling requests that may be about to give way to one
//! (Engine.IO protocol 4, "Upgrade"). Driven by [`super::Session`].

/// One WebSocket among all of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PipeId(pub(crate) u64);

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carrier {
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
pub(crate) enum Role {
    /// It carries the session.
    Carrier,
    /// It probes.
    Probe,
    /// Neither, or not any more.
    Stranger,
}

/// What a probing pipe's text means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Probed {
    /// Answer it.
    Answer,
    /// It carries the session from now on.
    TakeOver,
    /// It makes no sense: close that pipe.
    Close,
}

/// A request that does not fit the carrier's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Misfit {
    /// The session lives on another transport, and is unharmed.
    Transport,
    /// Two of a kind at once: the session ends.
    Overlap,
}

impl Carrier {
    /// A new session over long-polling.
    pub(crate) const POLLING: Self = Self::Polling { get: false, post: false, probe: None };

    /// What `pipe` is to the session.
    pub(crate) fn role(&self, pipe: PipeId) -> Role {
        match self {
            Self::WebSocket(own) if *own == pipe => Role::Carrier,
            Self::Polling { probe: Some(probe), .. } if probe.pipe == pipe => Role::Probe,
            _ => Role::Stranger,
        }
    }

    /// A GET came and waits from now on.
    pub(crate) fn start_get(&mut self) -> Result<(), Misfit> {
        match self {
            Self::WebSocket(_) => Err(Misfit::Transport),
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
    pub(crate) fn start_post(&mut self) -> Result<(), Misfit> {
        match self {
            Self::WebSocket(_) => Err(Misfit::Transport),
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
    pub(crate) fn start_probe(&mut self, pipe: PipeId) -> Result<(), Misfit> {
        match self {
            Self::Polling { probe: probe @ None, .. } => {
                *probe = Some(Probe { pipe, answered: false });
                Ok(())
            }
            _ => Err(Misfit::Transport),
        }
    }

    /// The probing pipe said something.
    pub(crate) fn probe_says(&mut self, text: &str) -> Probed {
        let Self::Polling { probe: Some(probe), .. } = self else { return Probed::Close };
        match text {
            "2probe" => {
                probe.answered = true;
                Probed::Answer
            }
            "5" => {
                *self = Self::WebSocket(probe.pipe);
                Probed::TakeOver
            }
            _ => Probed::Close,
        }
    }

    /// The probing pipe is gone; the session goes on polling, and another may probe.
    pub(crate) fn end_probe(&mut self) {
        if let Self::Polling { probe, .. } = self {
            *probe = None;
        }
    }

    /// Whether a GET that waits must be released, so that the client can switch.
    pub(crate) fn must_release(&self) -> bool {
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

fn start(running: &mut bool) -> Result<(), Misfit> {
    if std::mem::replace(running, true) { Err(Misfit::Overlap) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: PipeId = PipeId(1);
    const B: PipeId = PipeId(2);

    #[test]
    fn one_get_and_one_post_at_a_time() {
        let mut carrier = Carrier::POLLING;
        assert_eq!(carrier.start_get(), Ok(()));
        assert_eq!(carrier.start_post(), Ok(()));
        assert_eq!(carrier.start_get(), Err(Misfit::Overlap));
        assert_eq!(carrier.start_post(), Err(Misfit::Overlap));
        carrier.end_get();
        carrier.end_post();
        assert_eq!(carrier.start_get(), Ok(()));
        assert_eq!(carrier.start_post(), Ok(()));
    }

    #[test]
    fn a_probe_takes_over() {
        let mut carrier = Carrier::POLLING;
        assert_eq!(carrier.start_get(), Ok(()));
        assert_eq!(carrier.start_probe(A), Ok(()));
        assert_eq!(carrier.role(A), Role::Probe);
        assert!(!carrier.must_release());
        assert_eq!(carrier.probe_says("2probe"), Probed::Answer);
        assert!(carrier.must_release());
        assert_eq!(carrier.probe_says("5"), Probed::TakeOver);
        assert_eq!(carrier.role(A), Role::Carrier);
        assert_eq!(carrier.start_get(), Err(Misfit::Transport));
        assert_eq!(carrier.start_probe(B), Err(Misfit::Transport));
    }

    #[test]
    fn a_second_probe_is_turned_away_and_a_failed_one_makes_room() {
        let mut carrier = Carrier::POLLING;
        assert_eq!(carrier.start_probe(A), Ok(()));
        assert_eq!(carrier.start_probe(B), Err(Misfit::Transport));
        assert_eq!(carrier.role(B), Role::Stranger);
        assert_eq!(carrier.probe_says("2other"), Probed::Close);
        carrier.end_probe();
        assert_eq!(carrier.start_probe(B), Ok(()));
    }
}
