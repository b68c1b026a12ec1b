//! The subscription to closings and generations, which every process publishes on one channel. Spawned by [`super`].
//!
//! A message that is published while the subscription is interrupted is lost. So each new subscription, and each failed attempt at one,
//! is reported to the watchers of closings, which then check their sessions. The latest generation is read from the fence record.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt;
use remote::{
    NO_ANSWER, cause,
    redis::{Client, RedisError, Value, aio::PubSub},
};
use runtime::Backoff;
use tokio::time::timeout;

use super::{
    EVICTED, REPLACED,
    fence::{self, LatestGeneration},
};
use crate::{Cause, Closing, ClosingSender, SessionId};

/// The maximum time to connect and subscribe.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The waits between two attempts.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));

/// The idle time after which the connection is checked with a ping. A connection that a network device has dropped looks like an idle
/// one.
const PING_INTERVAL: Duration = Duration::from_secs(1);

/// Why the subscription is not established, as a phrase that follows "Redis".
pub type SubscriptionFault = Arc<Mutex<Option<String>>>;

/// The state of the subscription, and the receivers of its messages.
#[derive(Clone)]
pub struct Subscription {
    /// The name of the channel.
    pub channel: String,
    /// The key of the fence record.
    pub fence: String,
    /// Receives every closing, and a report after each attempt to subscribe.
    pub closings: ClosingSender,
    /// Whether the subscription is established.
    pub established: Arc<AtomicBool>,
    /// Why it is not established. `None` while it is, and before the first attempt.
    pub fault: SubscriptionFault,
    /// Receives every generation.
    pub latest: Arc<LatestGeneration>,
}

/// A message on the channel of closings.
#[derive(Debug, PartialEq, Eq)]
enum Message {
    /// A session ended. Unless it ended by a logout, a second message for earlier releases follows, which repeats its id.
    Closing(Closing),
    /// The generation of a Redis ([`super::fence`]).
    Generation(u64),
}

impl Message {
    /// Parses a message. `None` for messages of later releases.
    fn parse(text: &str) -> Option<Self> {
        if let Some(replaced) = text.strip_prefix(REPLACED) {
            return replaced.parse().ok().map(|id| Self::Closing(Closing::replaced(id)));
        }
        if let Some(evicted) = text.strip_prefix(EVICTED) {
            return evicted.parse().ok().map(|id| Self::Closing(Closing::evicted(id)));
        }
        match (text.parse(), text.parse()) {
            (Ok(id), _) => Some(Self::Closing(Closing::ended(id))),
            (_, Ok(generation)) => Some(Self::Generation(generation)),
            _ => None,
        }
    }
}

/// Subscribes, and resubscribes whenever the connection ends. Never returns.
pub async fn watch(client: Client, subscription: Subscription) {
    let mut backoff = BACKOFF;
    // The task is restarted after a panic.
    subscription.established.store(false, Ordering::Release);
    loop {
        match timeout(TIMEOUT, subscribe(&client, &subscription.channel)).await {
            Ok(Ok(channel)) => {
                backoff.reset();
                subscription.set_fault(None);
                // Closings since the end of the previous subscription were not received.
                subscription.closings.report_missed();
                subscription.read_generation(&client).await;
                subscription.established.store(true, Ordering::Release);
                subscription.receive(channel).await;
                subscription.established.store(false, Ordering::Release);
                tracing::warn!("lost the subscription to closed sessions, reconnecting");
            }
            Ok(Err(error)) => {
                subscription.closings.report_missed();
                let why = cause::of(&error);
                let fault = format!("{why} (SUBSCRIBE: {error})");
                if subscription.set_fault(Some(fault.clone())) != Some(fault) {
                    tracing::warn!(%error, why, "cannot subscribe to closed sessions, retrying");
                }
            }
            Err(_) => {
                subscription.closings.report_missed();
                subscription.set_fault(Some(NO_ANSWER.to_owned()));
            }
        }
        backoff.wait().await;
    }
}

impl Subscription {
    /// Receives messages until the connection ends or does not respond to a ping.
    async fn receive(&self, channel: PubSub) {
        let (mut sink, mut messages) = channel.split();
        let mut last = None;
        loop {
            match timeout(PING_INTERVAL, messages.next()).await {
                Ok(Some(message)) => {
                    self.dispatch(&message.get_payload::<String>().unwrap_or_default(), &mut last);
                }
                Ok(None) => return,
                Err(_) => match timeout(TIMEOUT, sink.ping::<Value>()).await {
                    Ok(Ok(_)) => {}
                    _ => return,
                },
            }
        }
    }

    /// Dispatches one message. `last` is the session of the previous message when the next one repeats its id.
    fn dispatch(&self, text: &str, last: &mut Option<SessionId>) {
        match Message::parse(text) {
            Some(Message::Closing(closing)) if last.as_ref() != Some(&closing.id) => {
                *last = (closing.cause != Cause::Ended).then(|| closing.id.clone());
                self.closings.send(closing);
            }
            Some(Message::Closing(_)) => *last = None,
            Some(Message::Generation(generation)) => _ = self.latest.raise(generation),
            None => {}
        }
    }

    /// Reads the generation of the fence record, because the message with it may have been published before the subscription. After an
    /// error the next query for a session reads it.
    async fn read_generation(&self, client: &Client) {
        let read = async {
            let mut redis = client.get_multiplexed_async_connection().await?;
            fence::get_with_record::<Value>(&mut redis, &self.fence, &self.fence).await
        };
        match timeout(TIMEOUT, read).await {
            Ok(Ok((Some(record), ..))) => self.latest.raise_to(&record),
            Ok(Ok((None, ..))) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the fence record cannot be read"),
            Err(_) => tracing::debug!("the fence record cannot be read in time"),
        }
    }

    /// Replaces the fault and returns the previous one.
    fn set_fault(&self, fault: Option<String>) -> Option<String> {
        std::mem::replace(&mut *self.fault.lock().unwrap_or_else(PoisonError::into_inner), fault)
    }
}

async fn subscribe(client: &Client, name: &str) -> Result<PubSub, RedisError> {
    let mut channel = client.get_async_pubsub().await?;
    channel.subscribe(name).await?;
    Ok(channel)
}
