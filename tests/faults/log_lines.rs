//! Log lines that clients can cause while a store fails: a bounded number of each kind, and the number of those that were left out.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde_json::json;
use testkit::{MongoFault, RedisFault};
use tokio::time::sleep;

use super::write_faults::{redis, request_with_retry};
use crate::support::{ConnectedUser, Request, TestServer, with_timeout};

/// The number of refused requests of each kind. More than all processes may log of one kind within a window.
const REQUESTS: usize = 90;

/// The maximum number of warnings of one kind and one process within [`WINDOW_SECONDS`].
const LIMIT: usize = 10;

/// The duration of a window.
const WINDOW_SECONDS: u64 = 10;

/// The number of processes that can log lines of one kind.
const PROCESSES: usize = 2;

/// The warnings and errors in `log` by kind: the part of the program and the message without fields.
fn warnings(log: &str) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for line in log.lines() {
        let Some((_, kind)) = line.split_once(" WARN ").or_else(|| line.split_once(" ERROR ")) else {
            continue;
        };
        let kind = kind.split('=').next().unwrap_or_default();
        *kinds.entry(kind.to_owned()).or_default() += 1;
    }
    kinds
}

/// Requests that a failed store refuses.
#[derive(Debug, Clone, Copy)]
enum Kind {
    PostBySocket,
    PostOverHttp,
    RoomCreation,
    Registration,
    Login,
    SessionLookup,
}

impl Kind {
    /// Sends a request, which is refused.
    async fn request(self, server: &TestServer, alice: &mut ConnectedUser, n: usize) {
        let text = json!({"text": format!("{self:?} {n}")});
        match self {
            Self::PostBySocket => {
                with_timeout("a refused post", async {
                    loop {
                        let ack = alice.emit_with_ack("message", &text).await;
                        if ack["code"] == "unavailable" {
                            break;
                        }
                        let wait = ack["retryAfter"].as_f64().expect("a rate limit");
                        sleep(Duration::from_secs_f64(wait)).await;
                    }
                })
                .await;
            }
            Self::PostOverHttp => {
                let post = || Request::post("/rooms/lobby/messages", &text);
                request_with_retry(&alice.user, post, 503).await;
            }
            Self::RoomCreation => {
                let new = json!({"name": format!("room-{n}")});
                request_with_retry(&alice.user, || Request::post("/rooms", &new), 503).await;
            }
            Self::Registration => {
                let other = server.unregistered_user(&format!("other{n}"));
                let register = || Request::post("/user/register", &other.credentials());
                assert_eq!(other.send(register()).await.status, 503);
            }
            Self::Login => {
                let other = server.unregistered_user(&alice.user.name);
                let login = Request::post("/user/login", &alice.user.credentials());
                assert_eq!(other.send(login).await.status, 503);
            }
            Self::SessionLookup => {
                assert_eq!(alice.user.get("/user/me").await.status, 503);
            }
        }
    }
}

#[tokio::test]
async fn refused_requests_log_a_bounded_number_of_lines_of_each_kind() {
    let mut server = TestServer::start_split().await;
    let kinds = [
        Kind::PostBySocket,
        Kind::PostOverHttp,
        Kind::RoomCreation,
        Kind::Registration,
        Kind::Login,
        Kind::SessionLookup,
    ];
    for kind in kinds {
        let mut alice = server.connected_user(&format!("{kind:?}").to_lowercase()).await;
        let stores = server.system.stores.as_ref().expect("a split system");
        match kind {
            Kind::Login => RedisFault::Demoted.inject(redis(&server)),
            Kind::SessionLookup => redis(&server).pause(),
            _ => stores.mongo.fail_writes(MongoFault::Full).await,
        }
        let (before, begun) = (server.system.log().len(), Instant::now());
        for n in 0..REQUESTS {
            kind.request(&server, &mut alice, n).await;
        }
        let seconds = begun.elapsed().as_secs();
        let log = server.system.log()[before..].to_owned();
        let limit = LIMIT * PROCESSES * usize::try_from(seconds / WINDOW_SECONDS + 2).expect("a short time");
        for (line, count) in warnings(&log) {
            assert!(count <= limit, "{kind:?}: {count} lines in {seconds} s: {line}");
        }
        match kind {
            Kind::Login => RedisFault::Demoted.clear(redis(&server)),
            Kind::SessionLookup => redis(&server).resume(),
            _ => server.system.stores.as_ref().expect("a split system").mongo.restore_writes().await,
        }
        server.system.wait_until_ready().await;
    }
    server.system.wait_for_log("log lines were dropped").await;
}
