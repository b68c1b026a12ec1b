//! [`Tickets`] in Redis: `ticket:<pid>` holds one as JSON and ends by itself. Losing them costs nobody a message: a client that
//! is not recognised starts anew.

use async_trait::async_trait;
use proto::{Timestamp, Username};
use remote::redis::AsyncCommands;
use serde::{Deserialize, Serialize};

use super::{LIFETIME_MS, Ticket, Tickets};
use crate::{Error, redis::Redis};

/// See the module.
pub struct RedisTickets {
    redis: Redis,
}

/// What is kept of a ticket.
#[derive(Serialize, Deserialize)]
struct Kept {
    sid: String,
    user: Username,
    since: u64,
    issued: u64,
}

impl RedisTickets {
    /// Tickets in this Redis.
    pub fn new(redis: Redis) -> Self {
        Self { redis }
    }

    fn key(&self, pid: &str) -> String {
        self.redis.key(&format!("ticket:{pid}"))
    }
}

#[async_trait]
impl Tickets for RedisTickets {
    async fn issue(&self, ticket: Ticket) -> Result<(), Error> {
        let Ticket { pid, sid, user, since, issued: Timestamp(issued) } = ticket;
        let value = serde_json::to_string(&Kept { sid, user, since, issued });
        let value = value.map_err(|error| Error::Store(error.to_string()))?;
        let key = self.key(&pid);
        self.redis.ask(async |mut redis| redis.pset_ex::<_, _, ()>(key, value, LIFETIME_MS).await).await
    }

    async fn find(&self, pid: &str, oldest: Timestamp) -> Result<Option<Ticket>, Error> {
        if !is_ours(pid) {
            return Ok(None);
        }
        let key = self.key(pid);
        let value: Option<Vec<u8>> = self.redis.ask(async |mut redis| redis.get(key).await).await?;
        let kept = value.and_then(|value| serde_json::from_slice::<Kept>(&value).ok());
        let kept = kept.filter(|kept| kept.issued >= oldest.0);
        Ok(kept.map(|Kept { sid, user, since, issued }| Ticket {
            pid: pid.to_owned(),
            sid,
            user,
            since,
            issued: Timestamp(issued),
        }))
    }
}

/// What a client shows becomes part of a key only when it looks like what it was given.
fn is_ours(pid: &str) -> bool {
    pid.len() == 32 && pid.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tickets::conformance;

    #[actix_rt::test]
    async fn keeps_what_every_store_of_tickets_promises() {
        let server = testkit::Redis::start();
        let tickets = RedisTickets::new(Redis::new(&server.url()).unwrap());
        conformance::run(&tickets).await;
    }

    #[actix_rt::test]
    async fn a_ticket_ends_by_itself_and_garbage_is_none() {
        let server = testkit::Redis::start();
        let redis = Redis::new(&server.url()).unwrap();
        let tickets = RedisTickets::new(redis.clone());
        let pid = "f".repeat(32);
        let user = "alice".parse().unwrap();
        let ticket = Ticket { pid: pid.clone(), sid: "s".into(), user, since: 1, issued: Timestamp(1) };
        tickets.issue(ticket).await.unwrap();
        let left: u64 =
            redis.ask(async |mut redis| redis.pttl(tickets.key(&"f".repeat(32))).await).await.unwrap();
        assert!(left > LIFETIME_MS - 60_000 && left <= LIFETIME_MS, "{left}");
        for garbage in ["", "{}", "[1]", r#"{"sid":"s","user":{"$gt":""},"since":1,"issued":1}"#] {
            redis
                .ask(async |mut redis| redis.set::<_, _, ()>(tickets.key(&"f".repeat(32)), garbage).await)
                .await
                .unwrap();
            assert_eq!(tickets.find(&pid, Timestamp(0)).await, Ok(None), "{garbage}");
        }
    }
}
