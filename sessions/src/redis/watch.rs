//! Hearing of closings, and of what Redis was told, from whatever process they come. A hint that is lost while Redis is away is lost: who has sockets asks
//! for each session now and then besides. Spawned by [`super`].

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt;
use remote::redis::{Client, RedisError, aio::PubSub};
use tokio::{
    sync::broadcast,
    time::{sleep, timeout},
};

use super::{CHANNEL, REPLACED, run::Seen};
use crate::{Cause, Closing};

/// How long connecting and subscribing may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Between two attempts, at first and at most; it doubles.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// Who is told what is heard.
#[derive(Clone)]
pub struct Heard {
    /// Of every closing.
    pub closings: broadcast::Sender<Closing>,
    /// Whether a closing would be heard now.
    pub listening: Arc<AtomicBool>,
    /// Of every generation.
    pub seen: Arc<Seen>,
}

/// What is published on the channel of closings.
#[derive(Debug, PartialEq, Eq)]
enum Message {
    /// A session ended. That of a replaced session is followed by a message for earlier releases, which names it again.
    Closing(Closing),
    /// The number of a Redis, see [`Seen`].
    Generation(u64),
}

impl Message {
    /// What `text` says; none for messages of later releases.
    fn read(text: &str) -> Option<Self> {
        if let Some(replaced) = text.strip_prefix(REPLACED) {
            return replaced.parse().ok().map(|id| Self::Closing(Closing::replaced(id)));
        }
        match (text.parse(), text.parse()) {
            (Ok(id), _) => Some(Self::Closing(Closing::ended(id))),
            (_, Ok(generation)) => Some(Self::Generation(generation)),
            _ => None,
        }
    }
}

/// Listens for ever.
pub async fn watch(client: Client, Heard { closings, listening, seen }: Heard) {
    let mut pause = PAUSES.0;
    // After a panic this begins anew.
    listening.store(false, Ordering::Release);
    loop {
        match timeout(PATIENCE, subscribe(&client)).await {
            Ok(Ok(channel)) => {
                pause = PAUSES.0;
                listening.store(true, Ordering::Release);
                let mut messages = channel.into_on_message();
                let mut last = None;
                while let Some(message) = messages.next().await {
                    let text = message.get_payload::<String>().unwrap_or_default();
                    match Message::read(&text) {
                        // An error only means that nobody watches.
                        Some(Message::Closing(closing)) if last.as_ref() != Some(&closing.id) => {
                            last = (closing.cause == Cause::Replaced).then(|| closing.id.clone());
                            _ = closings.send(closing);
                        }
                        Some(Message::Closing(_)) => last = None,
                        Some(Message::Generation(generation)) => _ = seen.raise(generation),
                        None => {}
                    }
                }
                listening.store(false, Ordering::Release);
                tracing::warn!("closings of sessions are not heard any more, trying again");
            }
            Ok(Err(error)) => tracing::debug!(%error, "cannot listen for closings yet"),
            Err(_) => tracing::debug!("no answer in time, cannot listen for closings yet"),
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}

async fn subscribe(client: &Client) -> Result<PubSub, RedisError> {
    let mut channel = client.get_async_pubsub().await?;
    channel.subscribe(CHANNEL).await?;
    Ok(channel)
}
