//! What rooms have stored is put into the stream, or told without it. Called through [`crate::broker::Broker`].

use std::time::Duration;

use proto::RoomName;
use tokio::time::{Instant, sleep, timeout_at};

use super::{ANOTHER, Stream, away};
use crate::{Error, history::StoredMessage, redis};

/// How long messages are put into the stream again whose way there is uncertain.
const AGAIN: Duration = Duration::from_secs(1);

impl Stream {
    /// Puts messages of one room, which are stored, into the stream; without any, whatever the room has that the stream lacks. When
    /// that fails they are told from the store, here at once and elsewhere within two seconds, and the stream hears of them later.
    ///
    /// # Errors
    /// When other nodes could not be told in any way: whoever said it must not be told that it was said.
    pub async fn publish(&self, room: &RoomName, messages: Vec<StoredMessage>) -> Result<(), Error> {
        let range = messages.first().zip(messages.last());
        let range = range.map(|(first, last)| (first.message.seq, last.message.seq));
        let published = match range {
            _ if !self.is_alive() => Err(away()),
            None => self.catch_up(room).await.map(drop),
            Some(_) => self.append_all(room, messages).await,
        };
        let published = match published {
            Err(error) if may_pass(&error) => self.publish_again(room).await,
            published => published,
        };
        let Err(error) = published else { return Ok(()) };
        tracing::debug!(%room, %error, "messages are told without the log");
        metrics::counter!("godzilla_chat_log_bypassed_total").increment(1);
        self.falls_behind(room);
        self.nudge.notify_one();
        let (first, last) = match range {
            Some(range) => range,
            None => {
                let head = self.history.head(room).await?.seq;
                (head, head)
            }
        };
        self.unpublished.note(room, first, last).await
    }

    /// Puts what the stream lacks of a room into it, after the outcome of an attempt was not known or another node was faster. What is
    /// in the stream must not be told from the store as well: clients would get it without its place, or twice.
    async fn publish_again(&self, room: &RoomName) -> Result<(), Error> {
        let until = Instant::now() + AGAIN;
        loop {
            match timeout_at(until, self.catch_up(room)).await {
                Ok(Err(error)) if may_pass(&error) => sleep(AGAIN / 20).await,
                Ok(published) => return published.map(drop),
                Err(_) => return Err(away()),
            }
        }
    }
}

/// Whether the same may succeed a moment later.
fn may_pass(error: &Error) -> bool {
    redis::is_late(error) || matches!(error, Error::Store(why) if why == ANOTHER)
}
