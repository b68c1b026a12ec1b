//! Logouts while the chat's subscription to closings is interrupted. With sessions in a real Redis, real sockets and real presence. A
//! second user of Redis has the rights of the chat, so that the subscription is refused while accounts closes sessions.

mod support;

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use serde_json::json;
use sessions::{RedisSessions, Sessions};
use support::{Client, DEADLINE, Login, TestChat};
use testkit::Redis;
use tokio::time::{sleep, timeout};

/// The maximum time of a disconnect on a busy machine. It is shorter than the interval of the periodic checks of all sessions.
const DISCONNECT: Duration = Duration::from_secs(12);

/// The number of users who log out in each case. More than are checked at once.
const USERS: usize = 40;

struct Fixture {
    redis: Redis,
    /// Accounts, which closes sessions.
    accounts: RedisSessions,
    /// The sessions of the chat.
    reader: Arc<RedisSessions>,
    chat: TestChat,
}

impl Fixture {
    async fn start() -> Self {
        let redis = Redis::start();
        allow(&redis);
        let accounts = RedisSessions::new(&redis.url()).expect("an address");
        let url = redis.url().replace("godzilla", "reader");
        let reader = Arc::new(RedisSessions::new(&url).expect("an address"));
        until("both are ready", async || {
            accounts.not_ready_reason().await.is_none() && reader.not_ready_reason().await.is_none()
        })
        .await;
        let chat = TestChat::with_sessions(reader.clone()).await;
        Self { redis, accounts, reader, chat }
    }

    async fn connect(&self, user: &str) -> (Login, Client) {
        let token =
            self.accounts.open(&user.parse().expect("a name"), &[]).await.expect("Redis accepts writes");
        let login = Login { user: user.to_owned(), token };
        let client = self.chat.connect(&login).await;
        (login, client)
    }

    async fn log_out(&self, login: &Login) {
        let id = login.token.id();
        until("a logout", async || self.accounts.close(&id).await.is_ok()).await;
    }

    async fn until_subscribed(&self, is_subscribed: bool) {
        until("the subscription", async || self.reader.is_subscribed() == is_subscribed).await;
    }
}

/// The packets of a client until its connection ends.
async fn packets_until_end(client: &mut Client) -> Vec<String> {
    let mut packets = Vec::new();
    while let Some(packet) = client.next().await {
        packets.push(packet);
    }
    packets
}

/// Gives the chat its rights in Redis.
fn allow(redis: &Redis) {
    redis.execute("ACL SETUSER reader on >secret ~* &* +@all");
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let until = async {
        while !holds().await {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(DEADLINE, until).await.unwrap_or_else(|_| panic!("{what}"));
}

/// Logs the users out, with an interruption of the chat's subscription.
async fn interrupt(fixture: &mut Fixture, how: &str, logins: &[Login]) {
    match how {
        "killed once" => {
            fixture.redis.execute("CLIENT KILL TYPE pubsub");
            join_all(logins.iter().map(|login| fixture.log_out(login))).await;
        }
        "killed before every logout" => {
            for login in logins {
                fixture.redis.execute("CLIENT KILL TYPE pubsub");
                fixture.log_out(login).await;
            }
        }
        "refused, then allowed" | "refused" => {
            fixture.redis.execute("ACL SETUSER reader resetchannels");
            fixture.until_subscribed(false).await;
            join_all(logins.iter().map(|login| fixture.log_out(login))).await;
            if how != "refused" {
                allow(&fixture.redis);
            }
        }
        "restarted" => {
            fixture.redis.kill();
            fixture.until_subscribed(false).await;
            fixture.redis.restart();
            // Redis has no user of this name now, so the chat cannot connect.
            join_all(logins.iter().map(|login| fixture.log_out(login))).await;
            allow(&fixture.redis);
        }
        other => panic!("{other}"),
    }
}

#[actix_rt::test]
async fn a_logout_disconnects_sockets_although_its_closing_was_lost() {
    for how in ["killed once", "killed before every logout", "refused, then allowed", "refused", "restarted"]
    {
        let mut fixture = Fixture::start().await;
        let (_, mut other) = fixture.connect("other").await;
        let (mut logins, mut clients) = (Vec::new(), Vec::new());
        for n in 0..USERS {
            let (login, client) = fixture.connect(&format!("user{n}")).await;
            logins.push(login);
            clients.push(client);
        }
        interrupt(&mut fixture, how, &logins).await;
        let disconnected = join_all(clients.iter_mut().map(packets_until_end));
        let all =
            timeout(DISCONNECT, disconnected).await.unwrap_or_else(|_| panic!("{how}: sockets are open"));
        for packets in all {
            let error = packets.iter().position(|packet| packet.starts_with("42[\"error\""));
            let disconnect = packets.iter().position(|packet| packet == "41");
            assert!(error.is_some() && error < disconnect, "{how}: {packets:?}");
        }
        assert_eq!(other.ask("message", json!({"text": "still here"})).await["ok"], true, "{how}");
        fixture.chat.close().await;
    }
}
