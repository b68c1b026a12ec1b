//! The fence of the stores of a role. While it is closed, requests to Redis fail and nothing is written to MongoDB. A role closes it while
//! the roles of another deployment use one of its stores.

use std::sync::Arc;

use tokio::sync::watch;

/// The fence. Cheap to clone; clones share the state. The default has no state and is always open.
#[derive(Debug, Clone, Default)]
pub struct Fence(Option<Arc<watch::Sender<State>>>);

/// Why the fence is closed, as a phrase that follows "Redis". `None` while it is open.
type State = Option<Arc<str>>;

/// The error of a write that a closed fence refuses. Displayed with the cause.
#[derive(Debug, thiserror::Error)]
#[error("the stores are not used: Redis {0}")]
pub struct Fenced(pub Arc<str>);

impl Fence {
    /// A closed fence. `reason` is a phrase that follows "Redis".
    pub fn closed(reason: &str) -> Self {
        Self(Some(Arc::new(watch::Sender::new(Some(reason.into())))))
    }

    /// Closes the fence, with the reason, or opens it. Has no effect on the default.
    pub fn set(&self, reason: Option<&str>) {
        if let Some(state) = &self.0 {
            state.send_replace(reason.map(Into::into));
        }
    }

    /// Whether the fence is open.
    pub fn is_open(&self) -> bool {
        self.0.as_ref().is_none_or(|state| state.borrow().is_none())
    }

    /// Waits until the fence is open.
    pub async fn opened(&self) {
        if let Some(state) = &self.0 {
            // The sender exists as long as `self`, so an error is impossible.
            _ = state.subscribe().wait_for(Option::is_none).await;
        }
    }

    /// Fails while the fence is closed.
    ///
    /// # Errors
    /// [`Fenced`], with the reason.
    pub fn check(&self) -> Result<(), Fenced> {
        let reason = self.0.as_ref().and_then(|state| state.borrow().clone());
        reason.map_or(Ok(()), |reason| Err(Fenced(reason)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_closed_fence_refuses_with_its_reason_until_it_is_opened() {
        let (always, fence) = (Fence::default(), Fence::closed("is of others"));
        always.set(Some("x"));
        assert!(always.is_open() && always.check().is_ok());
        always.opened().await;
        let clone = fence.clone();
        assert!(!clone.is_open());
        assert_eq!(clone.check().unwrap_err().to_string(), "the stores are not used: Redis is of others");
        let waiting = tokio::spawn(async move { clone.opened().await });
        fence.set(None);
        waiting.await.unwrap();
        assert!(fence.is_open() && fence.check().is_ok());
        fence.set(Some("is lost"));
        assert!(!fence.is_open());
    }
}
