//! The drain of the proxy, see [`crate::in_flight`].

use std::time::Duration;

use super::Proxy;

impl Proxy {
    /// Accepts no new sockets from now on. Other requests are answered, also the polls of open sessions, and their
    /// connections are closed.
    pub fn drain(&self) {
        self.0.in_flight.drain();
    }

    /// Begins the drain, if it has not begun, and waits for the requests that began before it, at most `within`. A pending
    /// poll gets a ping as response within the ping interval of its node.
    pub async fn drain_requests(&self, within: Duration) {
        self.0.in_flight.drain_requests(within).await;
    }

    /// Closes the WebSockets in steps. Call it after [`Proxy::drain_requests`]. Takes at most 3 s.
    pub async fn close_sockets(&self) {
        self.0.in_flight.close_sockets().await;
    }
}
