//! The way between the gateway and a node is cut: no packet arrives, and nothing says so.

use std::time::{Duration, Instant};

use socket2::{SockFilter, SockRef};

use crate::stage::{ACCEPTED, Peer, Stage, header, status};

/// A program for a socket's filter (BPF) that keeps no byte of any packet.
const DROP_ALL: SockFilter = SockFilter::new(0x06, 0, 0, 0);

/// Drops every packet for this end of a connection before its TCP sees it.
fn cuts(peer: &Peer) {
    SockRef::from(&peer.stream).attach_filter(&[DROP_ALL]).unwrap();
}

#[actix_web::test]
async fn a_send_is_answered_within_5_s_and_says_that_its_outcome_is_not_known() {
    let stage = Stage::opens(&[]).await;
    let body = r#"{"text":"hello","clientId":"1"}"#;
    let length = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    let started = Instant::now();
    let mut client = stage.sends(stage.head("POST /rooms/den/messages", &length) + body).await;
    let mut node = stage.one.accepts().await;
    node.head().await;
    cuts(&node);
    let head = client.head().await;
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!((status(&head), header(&head, "retry-after").as_deref()), (503, Some("1")), "{head}");
    let length = header(&head, "content-length").unwrap().parse().unwrap();
    assert!(client.takes(length).await.contains("sent again with the same clientId"));
    stage.two.is_untouched();
}

#[actix_web::test]
async fn a_websocket_ends_when_its_node_acknowledges_nothing() {
    let stage = Stage::opens(&[]).await;
    let mut client = stage.sends(stage.handshake("EIO=4&transport=websocket&sid=abc.one")).await;
    let mut node = stage.one.accepts().await;
    node.head().await;
    node.writes(ACCEPTED).await;
    assert_eq!(status(&client.head().await), 101);
    client.writes("before").await;
    assert_eq!(node.takes(6).await, "before");
    cuts(&node);
    client.writes("a send that waits for its ack").await;
    assert_eq!(client.rest().await, "", "the client can reconnect");
}
