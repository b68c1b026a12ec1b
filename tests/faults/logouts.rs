//! Logouts while Redis answers late and the subscription to closed sessions breaks: a logout that is refused with 503 either leaves the
//! session as it was, or ends it together with its sockets, within the bound of docs/sessions.md.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;
use tokio::time::sleep;

use super::write_faults::redis;
use crate::support::{ConnectedUser, TestServer, with_timeout};

/// The time from the first answer of Redis to the end of the sockets of sessions that have ended.
const BOUND: Duration = Duration::from_secs(3);

/// The time that Redis answers no writes, or nothing.
const PAUSE: Duration = Duration::from_millis(2_500);

/// The time in which a socket receives its end.
const RECEIPT: Duration = Duration::from_millis(50);

/// What Redis pauses, how long after that the subscription breaks, and how many milliseconds after the requests the pause begins: before the
/// first step of some logouts, and after the first steps of others.
const ROUNDS: [(&str, Duration, u64); 8] = [
    ("WRITE", Duration::ZERO, 0),
    ("ALL", Duration::from_millis(300), 1),
    ("WRITE", Duration::from_millis(300), 2),
    ("ALL", Duration::from_millis(2_400), 2),
    ("ALL", Duration::ZERO, 3),
    ("WRITE", Duration::from_millis(2_400), 4),
    ("ALL", Duration::from_millis(300), 4),
    ("ALL", Duration::from_millis(2_400), 5),
];

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
    let mut refused = 0;
    for (number, (pause, kill, step)) in ROUNDS.into_iter().enumerate() {
        let mut users = Vec::new();
        for n in 0..4 {
            users.push(server.connected_user(&format!("user{number}x{n}")).await);
        }
        let empty = json!({});
        let logouts = join_all(users.iter().map(|user| user.user.post("/user/logout", &empty)));
        let redis = redis(&server);
        let (answers, paused) = tokio::join!(logouts, async {
            sleep(Duration::from_millis(step)).await;
            redis.execute(&format!("CLIENT PAUSE {} {pause}", PAUSE.as_millis()));
            Instant::now()
        });
        sleep(kill.saturating_sub(paused.elapsed())).await;
        redis.query("CLIENT KILL TYPE pubsub");
        sleep((PAUSE + BOUND).saturating_sub(paused.elapsed())).await;
        for (user, answer) in users.iter_mut().zip(answers) {
            let is_live = is_live(user).await;
            let is_open = user.is_open_for(RECEIPT).await;
            let what = format!("{pause} {kill:?} {step}: answered {}", answer.status);
            assert_eq!(
                is_live, is_open,
                "{what}: the session is live: {is_live}, the socket is open: {is_open}"
            );
            match answer.status {
                200 => assert!(!is_live, "{what}"),
                status => assert_eq!(status, 503, "{what}"),
            }
            refused += usize::from(answer.status == 503);
            if is_live {
                user.send_message(&format!("still here {number}")).await;
                user.user.log_out().await;
                user.closed().await;
            }
        }
        server.system.wait_until_ready().await;
    }
    assert!(refused > ROUNDS.len(), "{refused} logouts were refused");
}

/// Redis accepts everything except the announcement of a closing. A logout then ends nothing, however often it is repeated.
#[tokio::test]
async fn a_logout_that_cannot_be_announced_is_refused_each_time_and_ends_nothing() {
    let mut server = TestServer::start_split().await;
    let mut user = server.connected_user("alice").await;
    let empty = json!({});
    for lost in ["-publish", "resetchannels &nothing"] {
        redis(&server).execute(&format!("ACL SETUSER godzilla {lost}"));
        for _ in 0..3 {
            user.user.post("/user/logout", &empty).await.expect_refusal(503);
            assert_eq!(user.user.get("/user/me").await.status, 200, "{lost}: the session is live");
            user.send_message(&format!("still here {lost}")).await;
        }
        redis(&server).execute("ACL SETUSER godzilla +@all allchannels");
        server.system.wait_until_ready().await;
    }
    user.user.log_out().await;
    user.closed().await;
}
