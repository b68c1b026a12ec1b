//! Logouts while Redis answers late and the subscription to closed sessions breaks: a logout that is refused with 503 either leaves the
//! session as it was, or ends it together with its sockets, within the bound of docs/sessions.md.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;
use testkit::Redis;
use tokio::time::sleep;

use super::write_faults::redis;
use crate::support::{ConnectedUser, TestServer, with_timeout};

/// The time from the first answer of Redis to the end of the sockets of sessions that have ended.
const BOUND: Duration = Duration::from_secs(3);

/// When the subscription breaks.
#[derive(Debug, Clone, Copy)]
enum Kill {
    BeforeLogouts,
    DuringLogouts,
    AfterLogouts,
}

/// Ends the connections that subscribe.
fn kill_subscriptions(redis: &Redis) {
    redis.query("CLIENT KILL TYPE pubsub");
}

/// Waits until accounts answers for the session. Returns whether the session is live.
async fn is_live(user: &ConnectedUser) -> bool {
    with_timeout("an answer for a session", async {
        loop {
            match user.user.get("/user/me").await.status {
                200 => return true,
                401 => return false,
                _ => sleep(Duration::from_millis(50)).await,
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_refused_logout_leaves_the_session_or_ends_its_sockets() {
    let mut server = TestServer::start_split().await;
    let (mut ended, mut left) = (0, 0);
    for (number, (pause, kill)) in [
        ("WRITE", Kill::BeforeLogouts),
        ("WRITE", Kill::DuringLogouts),
        ("WRITE", Kill::AfterLogouts),
        ("ALL", Kill::BeforeLogouts),
        ("ALL", Kill::DuringLogouts),
        ("ALL", Kill::AfterLogouts),
    ]
    .into_iter()
    .enumerate()
    {
        let mut users = Vec::new();
        for n in 0..4 {
            users.push(server.connected_user(&format!("user{number}x{n}")).await);
        }
        let redis = redis(&server);
        if let Kill::BeforeLogouts = kill {
            kill_subscriptions(redis);
        }
        let paused = Instant::now();
        redis.execute(&format!("CLIENT PAUSE 2500 {pause}"));
        let empty = json!({});
        let logouts = join_all(users.iter().map(|user| user.user.post("/user/logout", &empty)));
        let (answers, ()) = tokio::join!(logouts, async {
            if let Kill::DuringLogouts = kill {
                kill_subscriptions(redis);
            }
        });
        if let Kill::AfterLogouts = kill {
            kill_subscriptions(redis);
        }
        eprintln!("{pause} {kill:?} answers {:?} after {:?}", answers.iter().map(|a| a.status).collect::<Vec<_>>(), paused.elapsed());
        sleep(Duration::from_millis(2500).saturating_sub(paused.elapsed())).await;
        let resumed = Instant::now();
        sleep(BOUND).await;
        for (user, answer) in users.iter_mut().zip(answers) {
            let is_live = is_live(user).await;
            let is_open = user.is_open_for(Duration::from_millis(10)).await;
            eprintln!("{pause} {kill:?} status {} live {is_live} open {is_open} {:?}", answer.status, resumed.elapsed());
            if is_live { left += 1 } else { ended += 1 }
        }
        sleep(Duration::from_secs(33)).await;
        for user in users.iter_mut() {
            let is_live = is_live(user).await;
            let is_open = user.is_open_for(Duration::from_millis(10)).await;
            eprintln!("  later: live {is_live} open {is_open} {:?}", resumed.elapsed());
        }
        server.system.wait_until_ready().await;
    }
    eprintln!("{ended} {left}");
}
