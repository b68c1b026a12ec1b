//! WebSockets: no bytes are copied before both sides have accepted, all bytes after, and both sides close together.

use std::time::{Duration, Instant};

use tokio::time::timeout;

use crate::support::{Peer, SWITCHING_PROTOCOLS, TIMEOUT, TestServer, header, identity, names, status};

const QUERY: &str = "EIO=4&transport=websocket";

/// A WebSocket through the gateway: the client's end and the node's end.
async fn opened(server: &TestServer) -> (Peer, Peer) {
    let mut client = server.send(server.handshake(&format!("{QUERY}&sid=abc.one"))).await;
    let mut node = server.one.accept().await;
    node.read_head().await;
    node.write(SWITCHING_PROTOCOLS).await;
    assert_eq!(status(&client.read_head().await), 101);
    (client, node)
}

#[actix_web::test]
async fn client_bytes_reach_the_node_after_it_accepted_the_handshake() {
    let server = TestServer::start(&[]).await;
    let hello = server.handshake(QUERY);
    let hello = hello.replace("Upgrade: websocket\r\n", "Upgrade: WebSocket\r\nSec-WebSocket-Extensions: permessage-deflate\r\nX-Authenticated-User: eve\r\nX-Other: 1\r\n");
    let mut client = server.send(format!("{hello}early bytes")).await;
    let mut node = server.one.accept().await;
    let head = node.read_head().await;
    let expected = "connection cookie host sec-websocket-key sec-websocket-version upgrade \
                    x-authenticated-identity x-forwarded-for x-forwarded-host x-forwarded-proto";
    assert_eq!(names(&head).join(" "), expected, "{head}");
    assert_eq!(identity(&head).unwrap().username.as_str(), "alice");
    client.write(" and more").await;
    // The gateway has received the bytes before these two round trips.
    let mut health = server.send("GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert_eq!(status(&health.read_to_end().await), 200);
    node.assert_idle();
    node.write(format!("{SWITCHING_PROTOCOLS}directly after")).await;
    let head = client.read_head().await;
    assert_eq!(status(&head), 101);
    assert_eq!(header(&head, "sec-websocket-accept").as_deref(), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!(header(&head, "upgrade").as_deref(), Some("websocket"));
    assert_eq!(header(&head, "transfer-encoding"), None);
    assert_eq!(client.read(14).await, "directly after");
    assert_eq!(node.read(20).await, "early bytes and more");
}

#[actix_web::test]
async fn when_one_side_closes_the_other_closes_at_once() {
    // The HTTP server would wait for this time, in which the test fails.
    let server = TestServer::start_with_disconnect_timeout(&[], 6 * TIMEOUT).await;
    let (client, mut node) = opened(&server).await;
    drop(client);
    assert_eq!(node.read_to_end().await, "");
    let (mut client, mut node) = opened(&server).await;
    node.write("closing").await;
    drop(node);
    assert_eq!(client.read_to_end().await, "closing");
    let last_bytes = "closing".repeat(50_000);
    for _ in 0..20 {
        let (mut client, mut node) = opened(&server).await;
        let write_and_close = async {
            client.write(&last_bytes).await;
            drop(client);
        };
        let ((), received) = tokio::join!(write_and_close, node.read_to_end());
        assert!(received == last_bytes, "{} of {} bytes", received.len(), last_bytes.len());
    }
    let (client, mut node) = opened(&server).await;
    client.stream.set_zero_linger().unwrap();
    drop(client);
    node.read_to_end().await;
}

#[actix_web::test]
async fn a_refused_handshake_is_relayed_and_both_connections_close() {
    let server = TestServer::start(&[]).await;
    for (line, want) in [("403 Forbidden", 403), ("200 OK", 200)] {
        let body = r#"{"code":4,"message":"go elsewhere"}"#;
        let head = "Content-Type: application/json\r\nContent-Length: 35";
        let refusal = format!("HTTP/1.1 {line}\r\n{head}\r\n\r\n{body}");
        let smuggled = server.head("GET /rooms", "");
        let mut client = server.send(format!("{}{smuggled}", server.handshake(QUERY))).await;
        let mut node = server.one.accept().await;
        node.read_head().await;
        node.write(refusal).await;
        let answered = Instant::now();
        assert_eq!(node.read_to_end().await, "", "no bytes after the handshake");
        assert!(answered.elapsed() < Duration::from_secs(2), "the connection is kept for reuse");
        let response = client.read_to_end().await;
        assert_eq!((status(&response), response.matches("HTTP/1.1 ").count()), (want, 1), "{response}");
        assert!(response.ends_with(body), "{response}");
        assert_eq!(header(&response, "connection").as_deref(), Some("close"), "{response}");
    }
}

#[actix_web::test]
async fn an_invalid_acceptance_gets_502_and_both_connections_close() {
    let server = TestServer::start(&[]).await;
    let with = |header: &str| SWITCHING_PROTOCOLS.replace("\r\n\r\n", &format!("\r\n{header}\r\n\r\n"));
    let wrong = [
        SWITCHING_PROTOCOLS.replace("s3pP", "S3pP"),
        SWITCHING_PROTOCOLS.replace("Sec-WebSocket-Accept", "X"),
        SWITCHING_PROTOCOLS.replace("Upgrade: websocket", "Upgrade: h2c"),
        with("Sec-WebSocket-Extensions: permessage-deflate"),
        with("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        "nonsense\r\n\r\n".to_owned(),
        format!("HTTP/1.1 403 Forbidden\r\nContent-Length: 100000\r\n\r\n{}", "x".repeat(100_000)),
    ];
    for wrong in wrong {
        let mut client =
            server.send(format!("{}early", server.handshake(&format!("{QUERY}&sid=abc.one")))).await;
        let mut node = server.one.accept().await;
        node.read_head().await;
        node.stream.set_nodelay(true).unwrap();
        // The gateway may stop reading before everything is written.
        _ = tokio::io::AsyncWriteExt::write_all(&mut node.stream, wrong.as_bytes()).await;
        assert_eq!(node.read_to_end().await, "", "{wrong:.90}");
        let response = client.read_to_end().await;
        assert_eq!(status(&response), 502, "{wrong:.90}: {response}");
    }
}

#[actix_web::test]
async fn an_invalid_handshake_is_not_forwarded() {
    let server = TestServer::start(&[]).await;
    let good = server.handshake(QUERY);
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let bad_key = "Sec-WebSocket-Key is missing, repeated or not 16 bytes in base64";
    let bad_version = "Sec-WebSocket-Version is not 13";
    let no_connection = "without Connection: Upgrade";
    let no_transport = "without transport=websocket";
    let with = |header: &str| good.replace("\r\n\r\n", &format!("\r\n{header}\r\n\r\n"));
    let bad = [
        (good.replace("dGhlIHNhbXBsZSBub25jZQ==", "short"), 400, bad_key),
        (good.replace("Sec-WebSocket-Key", "X-Key"), 400, bad_key),
        (good.replace("dGhlIHNhbXBsZSBub25jZQ==", "the sample nonce"), 400, bad_key),
        (good.replace(key, &key.repeat(2)), 400, bad_key),
        (good.replace("Version: 13", "Version: 8"), 426, bad_version),
        (good.replace("Sec-WebSocket-Version: 13\r\n", ""), 426, bad_version),
        (with("Sec-WebSocket-Version: 13"), 426, bad_version),
        (good.replace("Connection: Upgrade\r\n", ""), 400, no_connection),
        (good.replace("Connection: Upgrade", "Connection: close"), 400, no_connection),
        (good.replace("Connection: Upgrade", "Connection: upgrades"), 400, no_connection),
        (good.replace("transport=websocket", "transport=polling"), 400, no_transport),
        (good.replace("transport=websocket", "transport=websocket&transport=polling"), 400, no_transport),
        (with("Content-Length: 5"), 400, "no body"),
        (with("Upgrade: websocket"), 400, "offered alone"),
        (good.replace("Upgrade: websocket", "Upgrade: websocket, h2c"), 400, "offered alone"),
        (good.replace("GET ", "POST "), 400, "a WebSocket handshake is a GET"),
        (good.replace(" HTTP/1.1", " HTTP/1.0"), 400, "HTTP/1.1"),
        (with("Origin: http://evil.example"), 403, ""),
        (good.replace("auth_token", "other"), 401, ""),
    ];
    for (bad, code, words) in bad {
        let mut client = server.send(&bad).await;
        // Refusals of a damaged handshake close the connection.
        let is_damaged = matches!(code, 400 | 426);
        let response = if is_damaged { client.read_to_end().await } else { client.read_head().await };
        assert!(status(&response) == code && response.contains(words), "{bad}: {response}");
        let head = response.to_ascii_lowercase();
        for header in
            ["sec-websocket-version: 13\r\n", "upgrade: websocket\r\n", "connection: close, upgrade\r\n"]
        {
            assert_eq!(head.contains(header), code == 426, "{header:?}: {response}");
        }
    }
    server.one.assert_no_connection();
    server.two.assert_no_connection();
}

#[actix_web::test]
async fn a_slow_client_applies_backpressure_to_its_node_and_loses_nothing() {
    let server = TestServer::start(&[]).await;
    let (mut client, mut node) = opened(&server).await;
    let piece: String = ('a'..='z').cycle().take(26 * 1_000).collect();
    let mut written = 0;
    while timeout(Duration::from_millis(300), node.stream.writable()).await.is_ok_and(|ready| ready.is_ok()) {
        let at = written % piece.len();
        match node.stream.try_write(&piece.as_bytes()[at..]) {
            Ok(count) => written += count,
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
        // The kernel's buffers of two connections. The gateway itself buffers about 50 KiB.
        assert!(written < 16 * 1024 * 1024, "no backpressure");
    }
    assert!(written > 0);
    let got = client.read(written).await;
    let is_next = |(index, byte): (usize, u8)| usize::from(byte - b'a') == index % 26;
    assert!(got.bytes().enumerate().all(is_next), "complete and in order");
    client.write("still there").await;
    assert_eq!(node.read(11).await, "still there");
}
