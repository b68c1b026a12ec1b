//! A network partition between the gateway and a node: all packets are dropped, without an error.

use std::time::{Duration, Instant};

use socket2::{SockFilter, SockRef};

use crate::support::{Peer, SWITCHING_PROTOCOLS, TestServer, header, status};

/// A socket filter (BPF program) that drops all packets.
const DROP_ALL: SockFilter = SockFilter::new(0x06, 0, 0, 0);

/// Drops every packet for this end of a connection before TCP receives it.
fn drop_packets(peer: &Peer) {
    SockRef::from(&peer.stream).attach_filter(&[DROP_ALL]).unwrap();
}

#[actix_web::test]
async fn a_send_gets_a_response_with_an_unknown_outcome_within_5_s() {
    let server = TestServer::start(&[]).await;
    let body = r#"{"text":"hello","clientId":"1"}"#;
    let length = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    let started = Instant::now();
    let mut client = server.send(server.head("POST /rooms/den/messages", &length) + body).await;
    let mut node = server.one.accept().await;
    node.read_head().await;
    drop_packets(&node);
    let head = client.read_head().await;
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!((status(&head), header(&head, "retry-after").as_deref()), (503, Some("1")), "{head}");
    let length = header(&head, "content-length").unwrap().parse().unwrap();
    assert!(client.read(length).await.contains("sent again with the same clientId"));
    server.two.assert_no_connection();
}

#[actix_web::test]
async fn a_websocket_closes_when_its_node_acknowledges_nothing() {
    let server = TestServer::start(&[]).await;
    let mut client = server.send(server.handshake("EIO=4&transport=websocket&sid=abc.one")).await;
    let mut node = server.one.accept().await;
    node.read_head().await;
    node.write(SWITCHING_PROTOCOLS).await;
    assert_eq!(status(&client.read_head().await), 101);
    client.write("before").await;
    assert_eq!(node.read(6).await, "before");
    drop_packets(&node);
    client.write("a send that waits for its ack").await;
    assert_eq!(client.read_to_end().await, "", "the client can reconnect");
}
