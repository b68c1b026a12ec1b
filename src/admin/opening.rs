//! What the roles use while they open their stores, before their parts start: the process is not ready, and `/readyz` names
//! what a role waits for. Made by the harness of the roles.

use std::sync::{Arc, Mutex, PoisonError};

use super::Readiness;

/// The process while its roles open their stores.
#[derive(Clone)]
pub struct Opening {
    readiness: Arc<Readiness>,
    /// Whether the process names its roles.
    named: bool,
    role: Option<&'static str>,
}

/// A part that a role cannot use yet. Its problem ends with the drop of this value.
pub struct Waiting {
    part: &'static str,
    problem: Arc<Mutex<Option<String>>>,
}

impl Opening {
    /// For a process whose `/readyz` reports `readiness`.
    pub fn new(readiness: Arc<Readiness>, named: bool) -> Self {
        Self { readiness, named, role: None }
    }

    /// For one role of the process.
    pub fn of(&self, role: &'static str) -> Self {
        Self { role: self.named.then_some(role), ..self.clone() }
    }

    /// Adds a part that the role may have to wait for.
    pub fn wait_for(&self, part: &'static str) -> Waiting {
        let problem = Arc::<Mutex<Option<String>>>::default();
        let reported = problem.clone();
        let probe = move || {
            let problem = reported.lock().unwrap_or_else(PoisonError::into_inner).clone();
            Box::pin(async move { problem }) as _
        };
        self.readiness.add((self.role, part), Box::new(probe));
        Waiting { part, problem }
    }
}

impl Waiting {
    /// Sets the problem, a phrase that follows the name of the part. Logs it when it has changed.
    pub fn report(&self, problem: String) {
        let mut current = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref() != Some(&problem) {
            tracing::warn!(part = self.part, "waiting: {} {problem}", self.part);
            *current = Some(problem);
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
