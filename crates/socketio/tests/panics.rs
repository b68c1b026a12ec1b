//! Panics in the application's code for one client, and in the session: only that client's connection ends,
//! and its sockets leave all rooms.

#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use serde_json::json;
use socketio::{CloseReason, Config, Target};
use support::{
    Client, Frame,
    http::{Poller, UNKNOWN},
    start,
};
use tokio::time::{Duration, sleep, timeout};

/// Per case: where the application panics, what the client sends besides its CONNECT, the code of the close
/// frame, and the reason that the peer receives, if any.
const CASES: [(&str, &str, u16, Option<CloseReason>); 6] = [
    ("connect", "", 1011, None),
    ("connected", "", 1011, None),
    ("event", "42[\"any\"]", 1011, Some(CloseReason::ServerError)),
    ("event closed", "42[\"any\"]", 1011, None),
    ("closed", "1", 1000, None),
    ("ending", "", 1008, Some(CloseReason::Flood)),
];

#[actix_rt::test]
async fn a_panic_of_the_application_ends_one_connection() {
    let server = start(Config::default());
    let mut bystanders = Vec::new();
    for _ in 0..4 {
        bystanders.push(Client::join(&server).await);
    }
    for (place, then, code, reason) in CASES {
        let mut client = Client::open(&server).await;
        client.send_text(&format!("40{{\"panic\":\"{place}\"}}")).await;
        // These cases need a client that has joined.
        if !place.starts_with("connect") {
            while client.next().await != Frame::Text("42[\"hello\"]".into()) {}
        }
        match place {
            // A flood of pongs.
            "ending" => client.send(&support::frame(0x81, b"3").repeat(100)).await,
            _ if !then.is_empty() => client.send_text(then).await,
            _ => {}
        }
        assert_eq!(close_code(&mut client).await, code, "{place}");
        if let Some(reason) = reason {
            assert_eq!(server.next_close(), reason, "{place}");
        }
        wait_for_sockets(&server, 4).await;
        server.broadcast("all sockets", "news", json!(place)).await;
        for bystander in &mut bystanders {
            assert_eq!(bystander.next().await, Frame::Text(format!("42[\"news\",\"{place}\"]")));
        }
    }
    assert_eq!(server.io.shards_alive().await, 2);
}

#[actix_rt::test]
async fn a_client_that_polls_is_answered_after_a_panic() {
    let server = start(Config::default());
    let poller = Poller::open(&server).await;
    poller.send_text("40{\"panic\":\"event\"}").await;
    assert_eq!(poller.post("42[\"any\"]").await.short(), (400, UNKNOWN));
    poller.assert_unknown().await;
    wait_for_sockets(&server, 0).await;
}

/// The code of the close frame, after any other frames.
async fn close_code(client: &mut Client) -> u16 {
    loop {
        match client.next().await {
            Frame::Close(code) => {
                assert_eq!(client.next().await, Frame::End);
                return code;
            }
            Frame::End => panic!("the connection ended without a close frame"),
            _ => {}
        }
    }
}

/// Waits until `count` sockets are left in the room that all sockets join.
async fn wait_for_sockets(server: &support::TestServer, count: usize) {
    let settled = async {
        while server.io.count().await != count {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(support::DEADLINE, settled).await.expect("the sockets leave");
    assert_eq!(server.io.fetch(Target::room("/", "all sockets".into())).await.len(), count);
}
