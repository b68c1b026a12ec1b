//! Lowers lines of libraries whose level is too high: actix-http logs at ERROR when a client sends a malformed request or resets
//! its connection. Any client can do that, so such lines are logged at DEBUG. Installed by [`super::logs`].

use std::fmt::{Debug, Write};

use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, layer::Context};

/// The target of the lines, and the start of their message.
const LINES: [(&str, &str); 2] =
    [("actix_http::h1::dispatcher", "stream error: "), ("actix_http::h1::dispatcher", "write zero; ")];

/// The `tracing` layer that lowers lines.
#[derive(Default)]
pub struct LibraryLevels;

/// The message of an event.
#[derive(Default)]
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            _ = write!(self.0, "{value:?}");
        }
    }
}

/// Whether a line is the fault of a client.
fn is_client_fault(target: &str, message: &str) -> bool {
    LINES.iter().any(|(other, start)| *other == target && message.starts_with(start))
}

impl<S: Subscriber> Layer<S> for LibraryLevels {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if *metadata.level() > Level::WARN || !LINES.iter().any(|(target, _)| *target == metadata.target()) {
            return true;
        }
        let mut message = Message::default();
        event.record(&mut message);
        if !is_client_fault(metadata.target(), &message.0) {
            return true;
        }
        tracing::debug!(target: "actix_http::h1::dispatcher", "{}", message.0);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_faults_of_clients_are_lowered() {
        let dispatcher = "actix_http::h1::dispatcher";
        for message in ["stream error: request parse error: invalid Header provided", "write zero; closing"] {
            assert!(is_client_fault(dispatcher, message), "{message}");
        }
        assert!(!is_client_fault(dispatcher, "Response payload stream error: x"));
        assert!(!is_client_fault("chat", "stream error: x"));
    }
}
