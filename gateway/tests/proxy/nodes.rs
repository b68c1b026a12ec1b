//! The selection of chat nodes.

use cluster::{Node, Nodes};
use futures_util::future::join_all;

use crate::support::{
    OK_RESPONSE, Peer, SWITCHING_PROTOCOLS, Service, TestServer, header, identity, open, status,
};

/// The head of a poll with this query.
fn poll(server: &TestServer, query: &str) -> String {
    server.head(&format!("GET /socket.io/?EIO=4&transport=polling{query}"), "Connection: close\r\n")
}

/// Responds to the next request to `node`, on a new connection.
async fn respond(node: &Service, response: &str) -> Peer {
    let mut peer = node.accept().await;
    peer.read_head().await;
    peer.write(response).await;
    peer
}

/// The response to a poll with this query from `node`.
async fn answered_by(server: &TestServer, node: &Service, query: &str) -> String {
    let mut client = server.send(poll(server, query)).await;
    let mut peer = node.accept().await;
    let head = peer.read_head().await;
    assert!(
        head.starts_with(&format!("GET /socket.io/?EIO=4&transport=polling{query} HTTP/1.1\r\n")),
        "{head}"
    );
    assert_eq!(identity(&head).unwrap().username.as_str(), "alice", "on every request");
    peer.write(OK_RESPONSE).await;
    client.read_to_end().await
}

#[actix_web::test]
async fn requests_of_a_session_go_to_the_node_in_its_id() {
    let server = TestServer::start(&[]).await;
    let id = "0a".repeat(16);
    assert!(answered_by(&server, &server.two, &format!("&sid={id}.due")).await.ends_with("fine"));
    assert!(answered_by(&server, &server.one, &format!("&sid={id}.one&t=abc")).await.ends_with("fine"));
    assert!(answered_by(&server, &server.one, &format!("&t=1&sid={id}%2Eone")).await.ends_with("fine"));
    server.one.assert_no_connection();
    server.two.assert_no_connection();
}

#[actix_web::test]
async fn a_session_on_an_unlisted_node_is_unknown() {
    let server = TestServer::start(&[]).await;
    let unknown = r#"{"code":1,"message":"Session ID unknown"}"#;
    let sids = ["abc.three", "abc", ".one", "__proto__", "abc.one.one"];
    let responses = sids.map(async |sid| {
        let polled = server.send(poll(&server, &format!("&sid={sid}"))).await.read_to_end().await;
        let upgrade = server.handshake(&format!("EIO=4&transport=websocket&sid={sid}"));
        (sid, polled, server.send(upgrade).await.read_to_end().await)
    });
    for (sid, polled, upgraded) in join_all(responses).await {
        assert_eq!((status(&polled), status(&upgraded)), (400, 400), "{sid}: {polled} {upgraded}");
        assert!(polled.ends_with(unknown), "{sid}: {polled}");
        assert_eq!(header(&upgraded, "connection").as_deref(), Some("close"), "{upgraded}");
    }
    server.nodes.send_replace(Nodes::new([open("due", &server.two.backend)]));
    let response = server.send(poll(&server, "&sid=abc.one")).await.read_to_end().await;
    assert!(response.ends_with(unknown), "the node was live before: {response}");
    server.one.assert_no_connection();
    server.two.assert_no_connection();
}

#[actix_web::test]
async fn new_sessions_go_to_the_preferred_node_and_skip_unreachable_nodes() {
    let server = TestServer::start(&[]).await;
    assert!(answered_by(&server, &server.one, "").await.ends_with("fine"));
    let gone = Service::start().await.stop();
    let table = [open("a", &gone.backend), open("due", &server.two.backend)];
    server.nodes.send_replace(Nodes::new(table));
    assert!(answered_by(&server, &server.two, "").await.ends_with("fine"));
    let mut client = server.send(server.handshake("EIO=4&transport=websocket")).await;
    let _node = respond(&server.two, SWITCHING_PROTOCOLS).await;
    assert_eq!(status(&client.read_head().await), 101);
    server.one.assert_no_connection();
}

/// A node that drains answers requests of sessions that other nodes opened, but opens none.
#[actix_web::test]
async fn a_draining_node_keeps_its_sessions_and_receives_no_new_ones() {
    let server = TestServer::start(&[]).await;
    let gone = Service::start().await.stop();
    let closed = ("one".to_owned(), Node { backend: server.one.backend.clone(), is_open: false });
    server.nodes.send_replace(Nodes::new([closed.clone(), open("due", &server.two.backend)]));
    assert!(server.proxy.has_nodes());
    assert!(answered_by(&server, &server.one, "&sid=abc.one").await.ends_with("fine"));
    assert!(answered_by(&server, &server.two, "").await.ends_with("fine"));
    server.nodes.send_replace(Nodes::new([closed.clone()]));
    assert!(!server.proxy.has_nodes());
    server.nodes.send_replace(Nodes::new([closed, open("due", &gone.backend)]));
    for opening in [poll(&server, ""), server.handshake("EIO=4&transport=websocket")] {
        assert_eq!(status(&server.send(opening).await.read_to_end().await), 503);
    }
    server.one.assert_no_connection();
    let post = "Content-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n";
    let post = format!("{}{{}}", server.head("POST /rooms", post));
    for request in [server.head("GET /rooms", "Connection: close\r\n"), post] {
        let mut client = server.send(request).await;
        let _node = respond(&server.one, OK_RESPONSE).await;
        assert_eq!(status(&client.read_head().await), 200);
    }
}

#[actix_web::test]
async fn a_node_that_responds_421_is_skipped() {
    let server = TestServer::start(&[]).await;
    let refusal = "HTTP/1.1 421 Misdirected Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    for opening in [poll(&server, ""), server.handshake("EIO=4&transport=websocket")] {
        let mut client = server.send(&opening).await;
        let _refusing = respond(&server.one, refusal).await;
        let _next = respond(&server.two, OK_RESPONSE).await;
        assert_eq!(status(&client.read_head().await), 200);
    }
    server.nodes.send_replace(Nodes::new([open("one", &server.one.backend)]));
    let mut client = server.send(poll(&server, "")).await;
    let _refusing = respond(&server.one, refusal).await;
    assert_eq!(status(&client.read_head().await), 503);
}

/// A slow response to one client is no failure of the node. A broken connection is one for all clients.
#[actix_web::test]
async fn a_node_is_tried_last_after_a_broken_connection_but_not_after_a_slow_response() {
    for reset in [false, true] {
        let server = TestServer::start(&[]).await;
        let mut client = server.send(server.head("GET /rooms", "Connection: close\r\n")).await;
        let mut slow = server.one.accept().await;
        slow.read_head().await;
        let _next = respond(&server.two, OK_RESPONSE).await;
        assert_eq!(status(&client.read_head().await), 200, "from the next node");
        let handshake = server.handshake("EIO=4&transport=websocket");
        let mut client = server.send(&handshake).await;
        let mut broken = server.one.accept().await;
        broken.read_head().await;
        if reset {
            broken.stream.set_zero_linger().unwrap();
        }
        drop(broken);
        let _next = respond(&server.two, OK_RESPONSE).await;
        assert_eq!(status(&client.read_head().await), 200, "from the next node");
        let mut client = server.send(&handshake).await;
        let _first = respond(&server.two, OK_RESPONSE).await;
        assert_eq!(status(&client.read_head().await), 200);
        server.one.assert_no_connection();
    }
}

#[actix_web::test]
async fn an_interrupted_post_or_poll_is_not_retried() {
    let server = TestServer::start(&[]).await;
    let post = "Content-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n";
    let post = format!("{}{{}}", server.head("POST /rooms", post));
    for request in [post, poll(&server, "&sid=abc.one")] {
        let mut client = server.send(request).await;
        let mut node = server.one.accept().await;
        node.read_head().await;
        drop(node);
        assert_eq!(status(&client.read_head().await), 502);
    }
    server.one.assert_no_connection();
    server.two.assert_no_connection();
}

#[actix_web::test]
async fn an_unlisted_node_is_looked_up_before_its_session_is_unknown() {
    let server = TestServer::start(&[]).await;
    let three = Service::start().await;
    let mut client = server.send(poll(&server, "&sid=abc.three")).await;
    server.refresh.notified().await;
    server.nodes.send_replace(Nodes::new([open("three", &three.backend)]));
    let _node = respond(&three, OK_RESPONSE).await;
    assert!(client.read_to_end().await.ends_with("fine"));
}

#[actix_web::test]
async fn without_a_reachable_node_the_response_is_503() {
    let server = TestServer::start(&[]).await;
    let (one, two) = (Service::start().await.stop(), Service::start().await.stop());
    let gone = [open("one", &one.backend), open("due", &two.backend)];
    for nodes in [Nodes::default(), Nodes::new(gone)] {
        server.nodes.send_replace(nodes);
        for request in [
            poll(&server, ""),
            server.handshake("EIO=4&transport=websocket"),
            server.head("GET /rooms", "Connection: close\r\n"),
        ] {
            let response = server.send(request).await.read_to_end().await;
            assert_eq!(status(&response), 503, "{response}");
            let body = r#"{"status":"error","code":503,"message":"Service Unavailable"}"#;
            assert!(response.ends_with(body), "{response}");
        }
    }
}

#[actix_web::test]
async fn an_anonymous_handshake_of_a_listed_page_has_no_identity() {
    let server = TestServer::start(&["--allow-origin=https://app.example.org"]).await;
    let head = "GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: a\r\nOrigin: https://app.example.org\r\nX-Authenticated-Identity: 1:eve:0:9:00\r\n\r\n";
    let _client = server.send(head).await;
    // Anonymous requests go to all nodes in turn, ordered by name.
    let head = server.two.accept().await.read_head().await;
    assert_eq!(identity(&head), None);
    assert_eq!(header(&head, "origin").as_deref(), Some("https://app.example.org"));
}

/// A killed node closes its connections: before the head of a response, or within it.
#[actix_web::test]
async fn an_interrupted_get_is_retried_on_the_next_node() {
    let part = "HTTP/1.1 200 OK\r\nContent-Le";
    for (part, reset) in [("", false), ("", true), (part, false), (part, true)] {
        let mut server = TestServer::start(&[]).await;
        let request = server.head("GET /rooms/lobby/messages", "Connection: close\r\n");
        let mut client = server.send(request).await;
        let mut killed = server.one.accept().await;
        killed.read_head().await;
        killed.write(part).await;
        if reset {
            // A process that is killed with unread bytes resets its connections.
            killed.stream.set_zero_linger().unwrap();
        }
        let _one = std::mem::replace(&mut server.one, Service::start().await).stop();
        drop(killed);
        let _next = respond(&server.two, OK_RESPONSE).await;
        let response = client.read_to_end().await;
        assert!(response.ends_with("fine"), "{part:?}, reset {reset}: {response}");
    }
}
