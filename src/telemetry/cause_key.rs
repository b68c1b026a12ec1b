//! The key of a log line within its call site. Several parts, stores and peers can report through one call site. Their lines
//! are limited separately, so that many lines about one do not hide those about another. Used by [`super::log_rate_limit`].

use std::{
    fmt::{Debug, Write},
    net::SocketAddr,
};

use tracing::{
    Event, Metadata,
    field::{Field, Visit},
};

/// The fields whose values are the key. Their values are few: names of parts, stores, nodes and addresses, not ids, names
/// of rooms and texts of errors.
const FIELDS: [&str; 10] =
    ["place", "part", "store", "path", "backend", "node", "peer", "address", "cause", "what"];

/// The field whose value is an address with the port of one connection. The port is not part of the key.
const PEER: &str = "peer";

/// Maximum length of a key, in bytes. The rest is cut off.
const MAX_BYTES: usize = 160;

/// The key of `event`: the names and values of its key fields. Empty without such a field.
pub fn of(event: &Event<'_>) -> Box<str> {
    let mut key = Key(String::new());
    if has_key_field(event.metadata()) {
        event.record(&mut key);
    }
    key.0.into()
}

fn has_key_field(metadata: &Metadata<'_>) -> bool {
    metadata.fields().iter().any(|field| FIELDS.contains(&field.name()))
}

struct Key(String);

impl Key {
    fn add(&mut self, name: &str, value: &str) {
        let space = if self.0.is_empty() { "" } else { " " };
        // Writing to a string cannot fail.
        _ = write!(self.0, "{space}{name}={value}");
        let end = (0..=MAX_BYTES.min(self.0.len())).rev().find(|end| self.0.is_char_boundary(*end));
        self.0.truncate(end.unwrap_or_default());
    }
}

impl Visit for Key {
    fn record_str(&mut self, field: &Field, value: &str) {
        if FIELDS.contains(&field.name()) {
            self.add(field.name(), value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if !FIELDS.contains(&field.name()) {
            return;
        }
        let value = format!("{value:?}");
        match value.parse::<SocketAddr>() {
            Ok(address) if field.name() == PEER => self.add(PEER, &address.ip().to_string()),
            _ => self.add(field.name(), &value),
        }
    }
}
