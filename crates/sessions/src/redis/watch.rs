//! Hearing of closings, and of what Redis was told, from whatever process they come. A hint that is lost while Redis is away is lost: who has sockets asks
//! for each session now and then besides. Spawned by [`super`].

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt;
use remote::{
    SILENT, cause,
    redis::{Client, RedisError, Value, aio::PubSub},
};
use tokio::{
    sync::broadcast,
    time::{sleep, timeout},
};

use super::{EVICTED, REPLACED, fence::Incarnation};
use crate::{Cause, Closing, SessionId};

/// How long connecting and subscribing may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Between two attempts, at first and at most; it doubles.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// The interval between two checks of a silent channel. A connection that a network device has dropped looks like a silent one.
const CHECK: Duration = Duration::from_secs(3);

/// The cause for which closings are not heard, in words that follow "Redis".
pub type SubscriptionFault = Arc<Mutex<Option<String>>>;

/// Who is told what is heard.
#[derive(Clone)]
pub struct Revoked {
    /// The name of the channel.
    pub channel: String,
    /// Of every closing.
    pub closings: broadcast::Sender<Closing>,
    /// Whether a closing would be heard now.
    pub listening: Arc<AtomicBool>,
    /// Why not, if that is known.
    pub deafness: SubscriptionFault,
    /// Of every generation.
    pub seen: Arc<Incarnation>,
}

/// What is published on the channel of closings.
#[derive(Debug, PartialEq, Eq)]
enum Message {
    /// A session ended. The message is followed by one for earlier releases, which names it again, unless it ended by a logout.
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

/// Listens for ever.
pub async fn watch(client: Client, heard: Revoked) {
    let mut pause = PAUSES.0;
    // After a panic this begins anew.
    heard.listening.store(false, Ordering::Release);
    loop {
        match timeout(PATIENCE, subscribe(&client, &heard.channel)).await {
            Ok(Ok(channel)) => {
                pause = PAUSES.0;
                heard.set_deafness(None);
                heard.listening.store(true, Ordering::Release);
                heard.listen(channel).await;
                heard.listening.store(false, Ordering::Release);
                tracing::warn!("closings of sessions are not heard any more, trying again");
            }
            Ok(Err(error)) => {
                let why = cause::of(&error);
                let words = format!("{why} (SUBSCRIBE: {error})");
                if heard.set_deafness(Some(words.clone())) != Some(words) {
                    tracing::warn!(%error, why, "cannot listen for closings yet");
                }
            }
            Err(_) => drop(heard.set_deafness(Some(SILENT.to_owned()))),
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}

impl Revoked {
    /// Until the connection ends, or does not answer.
    async fn listen(&self, channel: PubSub) {
        let (mut sink, mut messages) = channel.split();
        let mut last = None;
        loop {
            match timeout(CHECK, messages.next()).await {
                Ok(Some(message)) => {
                    self.take(&message.get_payload::<String>().unwrap_or_default(), &mut last);
                }
                Ok(None) => return,
                Err(_) => match timeout(PATIENCE, sink.ping::<Value>()).await {
                    Ok(Ok(_)) => {}
                    _ => return,
                },
            }
        }
    }

    /// Passes a message on. `last` is the session of the message before if the next one names it again.
    fn take(&self, text: &str, last: &mut Option<SessionId>) {
        match Message::read(text) {
            // An error only means that nobody watches.
            Some(Message::Closing(closing)) if last.as_ref() != Some(&closing.id) => {
                *last = (closing.cause != Cause::Ended).then(|| closing.id.clone());
                _ = self.closings.send(closing);
            }
            Some(Message::Closing(_)) => *last = None,
            Some(Message::Generation(generation)) => _ = self.seen.raise(generation),
            None => {}
        }
    }

    /// Answers with the cause before.
    fn set_deafness(&self, why: Option<String>) -> Option<String> {
        std::mem::replace(&mut *self.deafness.lock().unwrap_or_else(PoisonError::into_inner), why)
    }
}

async fn subscribe(client: &Client, name: &str) -> Result<PubSub, RedisError> {
    let mut channel = client.get_async_pubsub().await?;
    channel.subscribe(name).await?;
    Ok(channel)
}
