//! Which services did not answer a moment ago: they are asked last. Kept by the proxy for all workers.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::backend::Backend;

/// For how long.
const DOUBT: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Doubts(Mutex<HashMap<String, Instant>>);

impl Doubts {
    /// This one did not answer, or not in time.
    pub(super) fn note(&self, backend: &Backend) {
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        since.insert(backend.to_string(), Instant::now());
    }

    /// Puts those that are doubted behind all others; the order is else as it was.
    pub(super) fn last(&self, backends: &mut [Backend]) {
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        since.retain(|_, since| since.elapsed() < DOUBT);
        backends.sort_by_key(|backend| since.contains_key(&backend.to_string()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_did_not_answer_is_asked_last() {
        let backends: Vec<Backend> = (1..4).map(|n| format!("http://h:{n}").parse().unwrap()).collect();
        let (doubts, mut order) = (Doubts::default(), backends.clone());
        doubts.note(&backends[0]);
        doubts.last(&mut order);
        assert_eq!(order, [&backends[1..], &backends[..1]].concat());
    }
}
