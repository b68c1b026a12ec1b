//! The id and the claim of a part of Redis, as a gateway reads them. It holds no claim itself.

use std::{sync::Arc, time::Duration};

use actix_web::rt::{spawn, time::sleep};
use gateway::RedisKeys;
use remote::{Location, Redis};
use tokio::sync::watch;

use super::{
    claim::{INTERVAL, RETRY},
    claim_script::run,
    refused,
};
use crate::{error::Error, supervision::restart};

/// Watches the id and the claim of the part of Redis `at`, which may be unavailable. `None` before a role has created the id. Needs a running
/// runtime.
///
/// # Errors
/// When the address of Redis is invalid.
pub fn watch_keys(at: Location) -> Result<watch::Receiver<Option<RedisKeys>>, Error> {
    let redis = Redis::new(at, 1).map_err(refused)?;
    let (sender, receiver) = watch::channel(None);
    let sender = Arc::new(sender);
    spawn(restart("id of Redis", move || read_keys(redis.clone(), sender.clone())));
    Ok(receiver)
}

async fn read_keys(redis: Redis, keys: Arc<watch::Sender<Option<RedisKeys>>>) {
    loop {
        let last = keys.borrow().as_ref().map(|keys| keys.id.clone()).unwrap_or_default();
        let pause = match run(&redis, &last, ("", ""), Duration::ZERO).await {
            Ok((id, ..)) if id.is_empty() => RETRY,
            Ok((id, holder, name)) => {
                let holder = (!holder.is_empty()).then_some((holder, name));
                keys.send_replace(Some(RedisKeys { id, holder }));
                INTERVAL
            }
            Err(error) => {
                tracing::debug!(%error, "the id of Redis is not read; retrying");
                RETRY
            }
        };
        sleep(pause).await;
    }
}
