//! Draining: requests finish, then WebSockets close, and no new socket opens.

use std::time::Duration;

use tokio::time::timeout;

use crate::support::{OK_RESPONSE, SWITCHING_PROTOCOLS, TIMEOUT, TestServer, header, status};

#[actix_web::test]
async fn requests_finish_before_websockets_close_and_no_websocket_opens() {
    let server = TestServer::start(&[]).await;
    let mut socket = server.send(server.handshake("EIO=4&transport=websocket&sid=abc.one")).await;
    let mut node = server.one.accept().await;
    node.read_head().await;
    node.write(SWITCHING_PROTOCOLS).await;
    assert_eq!(status(&socket.read_head().await), 101);
    let mut poll = server.send(server.head("GET /socket.io/?EIO=4&transport=polling&sid=abc.due", "")).await;
    let mut other = server.two.accept().await;
    other.read_head().await;
    let proxy = server.proxy.clone();
    let drained = actix_web::rt::spawn(async move {
        proxy.drain_requests(Duration::from_secs(11)).await;
        proxy.close_sockets().await;
    });
    let open = server.head("GET /socket.io/?EIO=4&transport=polling", "");
    let probe = server.handshake("EIO=4&transport=websocket&sid=abc.due");
    // Each of these takes a second, because the server waits for the client to disconnect. Without pending requests the
    // sockets would close within two.
    for new in [open, server.handshake("EIO=4&transport=websocket"), probe] {
        let response = server.send(new).await.read_to_end().await;
        let got = (status(&response), header(&response, "connection"));
        assert_eq!(got, (503, Some("close".to_owned())), "{response}");
    }
    socket.write("still").await;
    assert_eq!(node.read(5).await, "still");
    assert!(!drained.is_finished(), "a request is in flight");
    other.write(OK_RESPONSE).await;
    let response = poll.read_to_end().await;
    assert!(status(&response) == 200 && response.ends_with("fine"), "{response}");
    timeout(TIMEOUT / 2, drained).await.expect("ends with the last request").unwrap();
    assert_eq!(socket.read_to_end().await, "");
    assert_eq!(node.read_to_end().await, "");
}

/// A poll that begins during the drain is limited at its node and closes its connection. The drain does not wait for it. The limit of a
/// client is not forwarded.
#[actix_web::test]
async fn polls_of_a_draining_gateway_are_limited_at_their_node() {
    let server = TestServer::start(&[]).await;
    let polled = async || {
        let poll = "GET /socket.io/?EIO=4&transport=polling&sid=abc.due";
        let client = server.send(server.head(poll, "X-Poll-Limit: 7\r\n")).await;
        let mut node = server.two.accept().await;
        let limit = header(&node.read_head().await, "x-poll-limit");
        (client, node, limit)
    };
    let (mut before, mut early, limit) = polled().await;
    assert_eq!(limit, None, "before the drain");
    server.proxy.drain();
    let (mut during, mut late, limit) = polled().await;
    assert_eq!(limit.as_deref(), Some("1500"));
    let proxy = server.proxy.clone();
    let drained = actix_web::rt::spawn(async move { proxy.drain_requests(TIMEOUT).await });
    early.write(OK_RESPONSE).await;
    let response = before.read_to_end().await;
    assert!(response.ends_with("fine"), "{response}");
    timeout(TIMEOUT / 2, drained).await.expect("does not wait for the later poll").unwrap();
    late.write(OK_RESPONSE).await;
    let response = during.read_to_end().await;
    assert_eq!(header(&response, "connection").as_deref(), Some("close"), "{response}");
    assert!(response.ends_with("fine"), "{response}");
    // Other requests are not limited.
    let mut client = server.send(server.head("GET /rooms", "X-Poll-Limit: 7\r\n")).await;
    let mut node = server.one.accept().await;
    assert_eq!(header(&node.read_head().await, "x-poll-limit"), None);
    node.write(OK_RESPONSE).await;
    assert_eq!(header(&client.read_to_end().await, "connection").as_deref(), Some("close"));
}
