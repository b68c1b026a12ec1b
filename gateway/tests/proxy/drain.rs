//! How a gateway ends: requests finish, then WebSockets are sent away, and nothing new begins.

use std::time::{Duration, Instant};

use crate::stage::{ACCEPTED, FINE, Stage, header, status};

#[actix_web::test]
async fn requests_finish_before_sockets_end_and_no_socket_is_opened_any_more() {
    let stage = Stage::opens(&[]).await;
    let mut socket = stage.sends(stage.handshake("EIO=4&transport=websocket&sid=abc.one")).await;
    let mut node = stage.one.accepts().await;
    node.head().await;
    node.writes(ACCEPTED).await;
    assert_eq!(status(&socket.head().await), 101);
    let mut poll = stage.sends(stage.head("GET /socket.io/?EIO=4&transport=polling&sid=abc.due", "")).await;
    let mut other = stage.two.accepts().await;
    other.head().await;
    let proxy = stage.proxy.clone();
    let drained = actix_web::rt::spawn(async move { proxy.drain().await });
    let open = stage.head("GET /socket.io/?EIO=4&transport=polling", "");
    let probe = stage.handshake("EIO=4&transport=websocket&sid=abc.due");
    // Each of these takes a second, because the server waits for the client to go; sockets would end within two.
    for new in [open, stage.handshake("EIO=4&transport=websocket"), probe] {
        let answer = stage.sends(new).await.rest().await;
        assert_eq!(
            (status(&answer), header(&answer, "connection").as_deref()),
            (503, Some("close")),
            "{answer}"
        );
    }
    socket.writes("still").await;
    assert_eq!(node.takes(5).await, "still");
    assert!(!drained.is_finished(), "a request is under way");
    other.writes(FINE).await;
    let answer = poll.rest().await;
    assert!(status(&answer) == 200 && answer.ends_with("fine"), "{answer}");
    let started = Instant::now();
    drained.await.unwrap();
    assert_eq!(socket.rest().await, "");
    assert_eq!(node.rest().await, "");
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
}

#[actix_web::test]
async fn with_nothing_under_way_the_end_comes_at_once() {
    let stage = Stage::opens(&[]).await;
    let started = Instant::now();
    stage.proxy.drain().await;
    assert!(started.elapsed() < Duration::from_secs(1));
}
