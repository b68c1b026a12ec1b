//! The subscription to closings, which every process publishes on one channel. Spawned by [`super`].
//!
//! A closing that is published while the subscription is interrupted is lost. So each attempt to subscribe is reported to the watchers
//! of closings, which then check their sessions.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt;
use remote::redis::{Client, Value, aio::PubSub};
use runtime::Backoff;
use tokio::time::timeout;

use crate::{Cause, Closing, ClosingSender};

/// The maximum time to connect and subscribe, and to answer a ping.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The waits between two attempts.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));

/// The idle time after which the connection is checked with a ping. A connection that a network device has dropped looks like an idle
/// one.
const PING_INTERVAL: Duration = Duration::from_secs(1);

/// Subscribes, and resubscribes whenever the connection ends. Never returns.
pub async fn watch(client: Client, channel: String, closings: ClosingSender, subscribed: Arc<AtomicBool>) {
    let mut backoff = BACKOFF;
    loop {
        // The task is restarted after a panic.
        subscribed.store(false, Ordering::Release);
        let subscription = timeout(TIMEOUT, subscribe(&client, &channel)).await;
        closings.report_missed();
        match subscription {
            Ok(Ok(subscription)) => {
                backoff.reset();
                subscribed.store(true, Ordering::Release);
                receive(subscription, &closings).await;
                tracing::warn!("lost the subscription to closed sessions, reconnecting");
            }
            Ok(Err(error)) => tracing::debug!(%error, "cannot subscribe to closed sessions, retrying"),
            Err(_) => tracing::debug!("cannot subscribe to closed sessions in time, retrying"),
        }
        backoff.wait().await;
    }
}

async fn subscribe(client: &Client, channel: &str) -> Result<PubSub, remote::redis::RedisError> {
    let mut subscription = client.get_async_pubsub().await?;
    subscription.subscribe(channel).await?;
    Ok(subscription)
}

/// Receives closings until the connection ends or does not respond to a ping.
async fn receive(subscription: PubSub, closings: &ClosingSender) {
    let (mut sink, mut messages) = subscription.split();
    loop {
        match timeout(PING_INTERVAL, messages.next()).await {
            Ok(Some(message)) => {
                if let Some(closing) = parse(&message.get_payload::<String>().unwrap_or_default()) {
                    closings.send(closing);
                }
            }
            Ok(None) => return,
            Err(_) => match timeout(TIMEOUT, sink.ping::<Value>()).await {
                Ok(Ok(_)) => {}
                _ => return,
            },
        }
    }
}

/// Parses the message of a closing.
fn parse(message: &str) -> Option<Closing> {
    let (cause, id) = message.split_once(':')?;
    let cause = match cause {
        "ended" => Cause::Ended,
        "evicted" => Cause::Evicted,
        "replaced" => Cause::Replaced,
        _ => return None,
    };
    Some(Closing { id: id.parse().ok()?, cause })
}
