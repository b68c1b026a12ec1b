//! The handlers of one namespace: finds the handler of an event and reads its payload.

use std::{cell::Cell, collections::HashMap, rc::Rc};

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Ack, Client, MAX_RUNNING};
use crate::{app::Event, close::CloseReason, socket::Reply};

/// The handlers of one namespace.
pub(super) struct Routes<D> {
    events: HashMap<String, Box<Handler<D>>>,
    pub(super) fallback: Option<Box<Fallback<D>>>,
    pub(super) connected: Option<Box<Connected<D>>>,
    pub(super) closed: Option<Box<Closed<D>>>,
}

type Handler<D> = dyn Fn(&Client<D>, Vec<Value>, Ack) + Send + Sync;
type Connected<D> = dyn Fn(&Client<D>) + Send + Sync;
type Closed<D> = dyn Fn(&Client<D>, CloseReason) + Send + Sync;
type Fallback<D> = dyn Fn(&Client<D>, Event, Option<Reply>) + Send + Sync;

impl<D> Default for Routes<D> {
    fn default() -> Self {
        Self { events: HashMap::new(), fallback: None, connected: None, closed: None }
    }
}

/// One running handler of a client. Its drop ends the count.
struct Running(Rc<Cell<usize>>);

impl Running {
    /// `None` if [`MAX_RUNNING`] handlers are running.
    fn start(running: &Rc<Cell<usize>>) -> Option<Self> {
        (running.get() < MAX_RUNNING).then(|| {
            running.set(running.get() + 1);
            Self(running.clone())
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl<D: 'static> Routes<D> {
    /// See [`super::Router::on`].
    pub(super) fn on<T: DeserializeOwned + 'static>(
        &mut self,
        name: &str,
        handler: impl Fn(&Client<D>, T, Ack) + Send + Sync + 'static,
    ) {
        let handler = move |client: &Client<D>, args, ack: Ack| match payload(args) {
            Ok(payload) => handler(client, payload, ack),
            Err(error) => ack.refuse("invalid_payload", &error.to_string()),
        };
        self.events.insert(name.to_owned(), Box::new(handler));
    }

    /// See [`super::Router::on_async`].
    pub(super) fn on_async<T, F>(
        &mut self,
        name: &str,
        handler: impl Fn(Client<D>, T, Ack) -> F + Send + Sync + 'static,
    ) where
        T: DeserializeOwned + 'static,
        F: Future<Output = ()> + 'static,
    {
        self.on(name, move |client, payload, ack| {
            let Some(running) = Running::start(&client.running) else {
                return ack.refuse("busy", "too many events of this client are being handled");
            };
            let handled = handler(client.clone(), payload, ack);
            actix_rt::spawn(async move {
                handled.await;
                drop(running);
            });
        });
    }

    /// Calls the handler of an event.
    pub(super) fn event(&self, client: &Client<D>, event: Event, reply: Option<Reply>) {
        match (self.events.get(&event.name), &self.fallback) {
            (Some(handler), _) => handler(client, event.args, Ack::from(reply)),
            (None, Some(fallback)) => fallback(client, event, reply),
            (None, None) => tracing::debug!(name = event.name, "event without a handler ignored"),
        }
    }

    /// Answers an event that cannot be represented.
    pub(super) fn unreadable(&self, name: &str, reply: Option<Reply>) {
        if self.events.contains_key(name) {
            Ack::from(reply).refuse("invalid_payload", "the arguments cannot be represented");
        }
    }
}

/// The payload in the arguments of an event.
fn payload<T: DeserializeOwned>(mut args: Vec<Value>) -> serde_json::Result<T> {
    let value = match args.len() {
        0 => Value::Null,
        1 => args.swap_remove(0),
        _ => Value::Array(args),
    };
    serde_json::from_value(value)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read<T: DeserializeOwned>(args: Value) -> Option<T> {
        let Value::Array(args) = args else { panic!("arguments are an array") };
        payload(args).ok()
    }

    #[test]
    fn a_payload_is_nothing_one_argument_or_a_tuple_of_several() {
        assert_eq!(read::<()>(json!([])), Some(()));
        assert_eq!(read::<Option<u8>>(json!([])), Some(None));
        assert_eq!(read::<u8>(json!([])), None);
        assert_eq!(read::<u8>(json!([1])), Some(1));
        assert_eq!(read::<u8>(json!([256])), None);
        assert_eq!(read::<(u8, String)>(json!([1, "a"])), Some((1, "a".to_owned())));
        assert_eq!(read::<(u8, String)>(json!([1])), None);
        assert_eq!(read::<(u8, String)>(json!([1, "a", true])), None);
        assert_eq!(read::<Vec<u8>>(json!([1, 2, 3])), Some(vec![1, 2, 3]));
        assert_eq!(read::<Vec<u8>>(json!([[1]])), Some(vec![1]));
    }
}
