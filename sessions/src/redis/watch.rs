//! Hearing of closings, from whatever process they come. A hint that is lost while Redis is away is lost: who has sockets asks
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

use super::CHANNEL;
use crate::SessionId;

/// How long connecting and subscribing may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Between two attempts, at first and at most; it doubles.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// Tells `closings` of every closing, for ever. `listening` says whether a closing would be heard now.
pub async fn watch(client: Client, closings: broadcast::Sender<SessionId>, listening: Arc<AtomicBool>) {
    let mut pause = PAUSES.0;
    loop {
        match timeout(PATIENCE, subscribe(&client)).await {
            Ok(Ok(channel)) => {
                pause = PAUSES.0;
                listening.store(true, Ordering::Release);
                let mut messages = channel.into_on_message();
                while let Some(message) = messages.next().await {
                    // An error only means that nobody watches.
                    let id = message.get_payload::<String>().ok().and_then(|id| id.parse().ok());
                    id.map(|id| closings.send(id));
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
