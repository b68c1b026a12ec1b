//! The gate of the stores of a role. While it is closed, requests to Redis fail and nothing is written to MongoDB. A role closes it while
//! the roles of another deployment use one of its stores.

use std::sync::Arc;

use tokio::sync::watch;

/// The gate. Cheap to clone; clones share the state. The default has no state and is always open.
#[derive(Debug, Clone, Default)]
pub struct StoreGate(Option<Arc<watch::Sender<State>>>);

/// Why the gate is closed, as a phrase that follows "Redis". `None` while it is open.
type State = Option<Arc<str>>;

/// The error of a write that a closed gate refuses. Displayed with the cause.
#[derive(Debug, thiserror::Error)]
#[error("the stores are not used: Redis {0}")]
pub struct StoreGateClosed(pub Arc<str>);

impl StoreGate {
    /// A closed gate. `reason` is a phrase that follows "Redis".
    pub fn closed(reason: &str) -> Self {
        Self(Some(Arc::new(watch::Sender::new(Some(reason.into())))))
    }

    /// Closes the gate, with the reason, or opens it. Has no effect on the default.
    pub fn set(&self, reason: Option<&str>) {
        if let Some(state) = &self.0 {
            state.send_replace(reason.map(Into::into));
        }
    }

    /// Whether the gate is open.
    pub fn is_open(&self) -> bool {
        self.0.as_ref().is_none_or(|state| state.borrow().is_none())
    }

    /// Waits until the gate is open.
    pub async fn opened(&self) {
        if let Some(state) = &self.0 {
            // The sender exists as long as `self`, so an error is impossible.
            _ = state.subscribe().wait_for(Option::is_none).await;
        }
    }

    /// Fails while the gate is closed.
    ///
    /// # Errors
    /// [`StoreGateClosed`], with the reason.
    pub fn check(&self) -> Result<(), StoreGateClosed> {
        let reason = self.0.as_ref().and_then(|state| state.borrow().clone());
        reason.map_or(Ok(()), |reason| Err(StoreGateClosed(reason)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_closed_fence_refuses_with_its_reason_until_it_is_opened() {
        let (always, gate) = (StoreGate::default(), StoreGate::closed("is of others"));
        always.set(Some("x"));
        assert!(always.is_open() && always.check().is_ok());
        always.opened().await;
        let clone = gate.clone();
        assert!(!clone.is_open());
        assert_eq!(clone.check().unwrap_err().to_string(), "the stores are not used: Redis is of others");
        let waiting = tokio::spawn(async move { clone.opened().await });
        gate.set(None);
        waiting.await.unwrap();
        assert!(gate.is_open() && gate.check().is_ok());
        gate.set(Some("is lost"));
        assert!(!gate.is_open());
    }
}
