//! Which start of Redis is trusted. Started again from a snapshot, or in place of one that is lost, Redis may show sessions that were
//! closed since: until their keeper (accounts) has closed them there, no connection to it is used. Nothing is opened before the
//! keeper's mark is there, so that a Redis without any mark has no session to show. Called by [`super`].

use std::{convert::Infallible, sync::Arc, time::Duration};

use futures_util::TryStreamExt;
use remote::{
    Hook, HookError,
    redis::{AsyncCommands, AsyncConnectionConfig, Client, RedisError, aio::MultiplexedConnection},
};
use tokio::time::{sleep, timeout};

use super::{CHANNEL, key, scripts, unavailable};
use crate::{Closed, Error};

/// Which start of Redis has heard of every closing: its `run_id`.
const RUN: &str = "sessions:run";

/// How long Redis may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long the list's next part may take.
const PART: Duration = Duration::from_secs(4);

/// Between two looks.
const TICK: Duration = Duration::from_millis(200);

/// Who asks Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asking {
    /// Who finds sessions.
    Finder,
    /// Who opens and closes them, too.
    Keeper,
}

/// Refuses a connection to a Redis that has not heard of every closing.
pub fn trusted(asking: Asking) -> Hook {
    Hook::async_fn(move |connection, _| {
        Box::pin(async move {
            let mark = mark(connection).await.map_err(HookError::Backend)?;
            let trusted = mark == Mark::Present || mark == Mark::None && asking == Asking::Finder;
            let untold = "Redis was started and has not yet been told which sessions are closed";
            trusted.then_some(()).ok_or_else(|| HookError::message(untold))
        })
    })
}

/// Tells every Redis that was started of the closed sessions, for ever.
pub async fn tell(client: Client, closed: Arc<dyn Closed>) {
    loop {
        let Err(error) = follow(&client, &*closed).await;
        tracing::debug!(%error, "whether Redis knows the closed sessions is not known, trying again");
        sleep(TICK).await;
    }
}

/// Until the connection breaks.
async fn follow(client: &Client, closed: &dyn Closed) -> Result<Infallible, Error> {
    let config = AsyncConnectionConfig::new().set_response_timeout(Some(PATIENCE));
    let connect = client.get_multiplexed_async_connection_with_config(&config);
    let mut redis = timeout(PATIENCE, connect).await.map_err(unavailable)?.map_err(unavailable)?;
    loop {
        if mark(&mut redis).await.map_err(unavailable)? != Mark::Present {
            let ended = bury(&mut redis, closed).await?;
            let run = remote::run(&mut redis).await.map_err(unavailable)?;
            redis.set::<_, _, ()>(RUN, run).await.map_err(unavailable)?;
            tracing::info!(ended, "Redis was started and knows now which sessions are closed");
        }
        sleep(TICK).await;
    }
}

/// What Redis says that it was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    /// Nothing, ever.
    None,
    /// Something, before it was started.
    Past,
    /// All, since it was started.
    Present,
}

async fn mark(redis: &mut MultiplexedConnection) -> Result<Mark, RedisError> {
    let run = remote::run(redis).await?;
    let told: Option<String> = redis.get(RUN).await?;
    Ok(told.map_or(Mark::None, |told| if told == run { Mark::Present } else { Mark::Past }))
}

/// Closes what is closed, and answers how many of them Redis had as open.
async fn bury(redis: &mut MultiplexedConnection, closed: &dyn Closed) -> Result<usize, Error> {
    let mut parts = closed.parts().await?;
    let mut ended = 0;
    while let Some(part) = timeout(PART, parts.try_next()).await.map_err(unavailable)?? {
        let mut script = scripts::BURY.prepare_invoke();
        script.arg(CHANNEL);
        for session in &part {
            script.key(key(session)).arg(session.as_str());
        }
        ended += script.invoke_async::<usize>(redis).await.map_err(unavailable)?;
    }
    Ok(ended)
}
