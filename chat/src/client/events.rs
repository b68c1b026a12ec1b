//! Parsing of events into commands, and the rate limits of events. Independent of rooms. [`super::Client`] puts commands into its
//! [`super::queue`] and refuses invalid events.

use std::time::{Duration, Instant};

use socketio::Event;

use crate::{
    Config, Error,
    bucket::{Bucket, Rate},
    commands::{EventCommand, QueuedCommand, RateClass, of_event},
};

/// The limits of one connection.
#[derive(Debug)]
pub struct Limits {
    /// The maximum number of open acks.
    open_acks: usize,
    messages: Bucket,
    requests: Bucket,
    /// The refusals that a client may cause before it is disconnected.
    refusals: Bucket,
}

/// The rate of `join`, `leave`, `history` and `typing` events. The burst allows a reconnecting client to join all its rooms at once.
const REQUESTS: Rate = Rate { per_second: 20.0, burst: 120.0 };

/// The rate of refusals for exceeding a rate before the connection is closed. A refusal costs the server as much as the command.
const REFUSALS: Rate = Rate { per_second: 50.0, burst: 500.0 };

impl Limits {
    /// Whether a client has exceeded the rate of refusals. Call it once for every refusal.
    pub fn is_flooding(&mut self, refused: &Error, now: Instant) -> bool {
        matches!(refused, Error::RateLimited { .. }) && self.refusals.take(now).is_err()
    }

    /// The limits of a new connection: all buckets are full.
    pub fn new(config: &Config, now: Instant) -> Self {
        let messages = Rate::new(config.message_rate, config.message_burst);
        Self {
            open_acks: config.open_acks,
            messages: Bucket::full(messages, now),
            requests: Bucket::full(REQUESTS, now),
            refusals: Bucket::full(REFUSALS, now),
        }
    }

    /// Parses an event. `open_acks` is the number of acks that the client waits for, including the ack of this event.
    ///
    /// # Errors
    /// [`Error::RateLimited`], [`Error::BadRequest`], [`Error::TooLarge`].
    pub fn read(
        &mut self,
        event: &mut Event,
        open_acks: usize,
        config: &Config,
        now: Instant,
    ) -> Result<Box<dyn QueuedCommand>, Error> {
        let command = of_event(&event.name);
        self.charge(command, open_acks, now)?;
        match command {
            Some(command) => (command.parse)(event, config),
            None => Err(Error::BadRequest("there is no such event".to_owned())),
        }
    }

    /// The refusal of an event whose arguments cannot be represented. It counts against the same limits.
    pub fn unreadable(&mut self, name: &str, open_acks: usize, now: Instant) -> Error {
        let unreadable = "the event is nested too deeply or holds a number that is out of range";
        let refused = self.charge(of_event(name), open_acks, now).err();
        refused.unwrap_or_else(|| Error::BadRequest(unreadable.to_owned()))
    }

    /// Counts an event of a command, or of an unknown name, against its rate.
    fn charge(
        &mut self,
        command: Option<&EventCommand>,
        open_acks: usize,
        now: Instant,
    ) -> Result<(), Error> {
        if open_acks > self.open_acks {
            let retry_after = Duration::from_secs(1);
            return Err(Error::RateLimited { what: "too many acks are open", retry_after });
        }
        let (bucket, what) = match command.map(|command| command.rate) {
            Some(RateClass::Message) => (&mut self.messages, "too many messages"),
            Some(RateClass::Write | RateClass::Read | RateClass::LargeRead) | None => {
                (&mut self.requests, "too many events")
            }
        };
        bucket.take(now).map_err(|retry_after| Error::RateLimited { what, retry_after })
    }
}

#[cfg(test)]
mod tests {
    use proto::event::Code;
    use serde_json::{Value, json};

    use super::*;

    fn event(name: &str, args: Value) -> Event {
        let args = args.as_array().unwrap().clone();
        Event { name: name.to_owned(), args, attachments: vec![] }
    }

    fn read(name: &str, args: Value) -> Result<Box<dyn QueuedCommand>, Error> {
        let (now, config) = (Instant::now(), Config::default());
        Limits::new(&config, now).read(&mut event(name, args), 1, &config, now)
    }

    fn code(name: &str, args: Value) -> Option<Code> {
        read(name, args).err().map(|error| error.code())
    }

    #[test]
    fn malformed_events_are_bad_requests() {
        let bad = [
            ("message", json!([])),
            ("message", json!([null])),
            ("message", json!(["hi"])),
            ("message", json!([["hi"]])),
            ("typing", json!([[true, "lobby"]])),
            ("history", json!([["lobby"]])),
            ("message", json!([{"text": ""}])),
            ("message", json!([{"text": 5}])),
            ("message", json!([{"text": {"$gt": ""}}])),
            ("message", json!([{"text": "hi", "room": "no room"}])),
            ("message", json!([{"text": "hi", "clientId": ""}])),
            ("message", json!([{"text": {"_placeholder": true, "num": 0}}])),
            ("typing", json!([{"isTyping": "yes"}])),
            ("join", json!([{"room": 1}])),
            ("join", json!([{"room": "tea", "since": -1}])),
            ("leave", json!([{}])),
            ("history", json!([{"limit": "all"}])),
            ("constructor", json!([{}])),
            ("", json!([])),
        ];
        for (name, args) in bad {
            assert_eq!(code(name, args.clone()), Some(Code::BadRequest), "{name} {args}");
        }
    }

    #[test]
    fn messages_above_the_burst_are_refused_and_other_events_are_not() {
        let now = Instant::now();
        let config = Config::default();
        let mut limits = Limits::new(&config, now);
        let mut send = |name: &str, args: Value| limits.read(&mut event(name, args), 0, &config, now);
        assert!((0..20).all(|_| send("message", json!([{"text": "x"}])).is_ok()));
        let refused = send("message", json!([{"text": "x"}])).unwrap_err();
        assert_eq!((refused.code(), refused.refused().retry_after), (Code::RateLimited, Some(0.1)));
        assert!(send("join", json!([{"room": "tea"}])).is_ok());
        let flood = (0..200).filter(|_| send("nonsense", json!([])).unwrap_err().code() == Code::BadRequest);
        assert_eq!(flood.count(), 119, "invalid events count against the rate as well");
    }

    #[test]
    fn too_many_rate_refusals_count_as_flooding() {
        let now = Instant::now();
        let mut limits = Limits::new(&Config::default(), now);
        let refused = Error::RateLimited { what: "too many events", retry_after: std::time::Duration::ZERO };
        assert!((0..500).all(|_| !limits.is_flooding(&refused, now)));
        assert!(!limits.is_flooding(&Error::NotFound, now), "other refusals do not count");
        assert!(limits.is_flooding(&refused, now));
    }

    #[test]
    fn open_acks_above_the_limit_are_refused() {
        let now = Instant::now();
        let config = Config::default();
        let mut limits = Limits::new(&config, now);
        let mut history = |open| limits.read(&mut event("history", json!([])), open, &config, now);
        assert!(history(64).is_ok());
        assert_eq!(history(65).unwrap_err().code(), Code::RateLimited);
    }
}
