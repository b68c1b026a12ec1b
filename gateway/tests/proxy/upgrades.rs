//! WebSockets: nothing passes before both sides have agreed, everything after, and neither side outlives the other.

use std::time::{Duration, Instant};

use tokio::time::timeout;

use crate::stage::{ACCEPTED, Peer, Stage, header, identity, names, status};

const QUERY: &str = "EIO=4&transport=websocket";

/// A WebSocket through the gateway: the client's end and the node's.
async fn opened(stage: &Stage) -> (Peer, Peer) {
    let mut client = stage.sends(stage.handshake(&format!("{QUERY}&sid=abc.one"))).await;
    let mut node = stage.one.accepts().await;
    node.head().await;
    node.writes(ACCEPTED).await;
    assert_eq!(status(&client.head().await), 101);
    (client, node)
}

#[actix_web::test]
async fn no_byte_reaches_the_node_before_it_has_agreed_and_all_of_them_after() {
    let stage = Stage::opens(&[]).await;
    let hello = stage.handshake(QUERY);
    let hello = hello.replace("Upgrade: websocket\r\n", "Upgrade: WebSocket\r\nSec-WebSocket-Extensions: permessage-deflate\r\nX-Authenticated-User: eve\r\nX-Other: 1\r\n");
    let mut client = stage.sends(format!("{hello}early bytes")).await;
    let mut node = stage.one.accepts().await;
    let head = node.head().await;
    let known = [
        "connection",
        "cookie",
        "host",
        "sec-websocket-key",
        "sec-websocket-version",
        "upgrade",
        "x-authenticated-identity",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
    ];
    assert_eq!(names(&head), known, "{head}");
    assert_eq!(identity(&head).unwrap().username.as_str(), "alice");
    client.writes(" and more").await;
    // The gateway has had the bytes before these two round trips.
    assert_eq!(
        status(
            &stage.sends("GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.rest().await
        ),
        200
    );
    node.is_silent();
    node.writes(format!("{ACCEPTED}right behind")).await;
    let head = client.head().await;
    assert_eq!(status(&head), 101);
    assert_eq!(header(&head, "sec-websocket-accept").as_deref(), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!(header(&head, "upgrade").as_deref(), Some("websocket"));
    assert_eq!(header(&head, "transfer-encoding"), None);
    assert_eq!(client.takes(12).await, "right behind");
    assert_eq!(node.takes(20).await, "early bytes and more");
    for round in 0..50 {
        let (to, back) = (format!("to the node {round};"), format!("to the client {round};"));
        client.writes(&to).await;
        node.writes(&back).await;
        assert_eq!(node.takes(to.len()).await, to);
        assert_eq!(client.takes(back.len()).await, back);
    }
}

#[actix_web::test]
async fn whichever_side_ends_the_other_ends_at_once() {
    let stage = Stage::opens_lingering(&[], Duration::from_secs(5)).await;
    let (client, mut node) = opened(&stage).await;
    drop(client);
    assert_eq!(node.rest().await, "");
    let (mut client, node) = opened(&stage).await;
    let started = Instant::now();
    drop(node);
    assert_eq!(client.rest().await, "");
    // The HTTP server would wait for five.
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    let (mut client, mut node) = opened(&stage).await;
    node.writes("goodbye").await;
    drop(node);
    assert_eq!(client.rest().await, "goodbye");
    let last_words = "goodbye".repeat(50_000);
    for _ in 0..20 {
        let (mut client, mut node) = opened(&stage).await;
        let says_and_goes = async {
            client.writes(&last_words).await;
            drop(client);
        };
        let ((), heard) = tokio::join!(says_and_goes, node.rest());
        assert!(heard == last_words, "{} of {} bytes", heard.len(), last_words.len());
    }
    let (client, node) = opened(&stage).await;
    client.stream.set_zero_linger().unwrap();
    drop(client);
    let mut node = node;
    node.rest().await;
}

#[actix_web::test]
async fn an_answer_that_is_no_agreement_is_passed_on_and_both_connections_end() {
    let stage = Stage::opens(&[]).await;
    let refusals = [
        (
            "HTTP/1.1 403 Forbidden\r\nServer: s\r\nContent-Type: application/json\r\nContent-Length: 35\r\n\r\n{\"code\":4,\"message\":\"go elsewhere\"}",
            403,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 35\r\n\r\n{\"code\":4,\"message\":\"go elsewhere\"}",
            200,
        ),
    ];
    for (refusal, want) in refusals {
        let smuggled = stage.head("GET /rooms", "");
        let mut client = stage.sends(format!("{}{smuggled}", stage.handshake(QUERY))).await;
        let mut node = stage.one.accepts().await;
        node.head().await;
        node.writes(refusal).await;
        let answered = Instant::now();
        assert_eq!(node.rest().await, "", "nothing of what came behind");
        assert!(
            answered.elapsed() < Duration::from_secs(2),
            "not kept for another: {:?}",
            answered.elapsed()
        );
        let answer = client.rest().await;
        assert_eq!((status(&answer), answer.matches("HTTP/1.1 ").count()), (want, 1), "{answer}");
        assert!(answer.ends_with(r#"{"code":4,"message":"go elsewhere"}"#), "{answer}");
        assert_eq!(header(&answer, "connection").as_deref(), Some("close"), "{answer}");
    }
}

#[actix_web::test]
async fn an_agreement_that_makes_no_sense_is_502_and_both_connections_end() {
    let stage = Stage::opens(&[]).await;
    let wrong = [
        ACCEPTED.replace("s3pP", "S3pP"),
        ACCEPTED.replace("Sec-WebSocket-Accept", "X"),
        ACCEPTED.replace("Upgrade: websocket", "Upgrade: h2c"),
        ACCEPTED.replace(
            "Upgrade: websocket",
            "Upgrade: websocket\r\nSec-WebSocket-Extensions: permessage-deflate",
        ),
        ACCEPTED.replace(
            "Upgrade: websocket",
            "Upgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
        ),
        "nonsense\r\n\r\n".to_owned(),
        format!("HTTP/1.1 403 Forbidden\r\nContent-Length: 100000\r\n\r\n{}", "x".repeat(100_000)),
    ];
    for wrong in wrong {
        let mut client =
            stage.sends(format!("{}early", stage.handshake(&format!("{QUERY}&sid=abc.one")))).await;
        let mut node = stage.one.accepts().await;
        node.head().await;
        node.stream.set_nodelay(true).unwrap();
        // The gateway may have stopped reading before all of it is written.
        _ = tokio::io::AsyncWriteExt::write_all(&mut node.stream, wrong.as_bytes()).await;
        assert_eq!(node.rest().await, "", "{wrong:.90}");
        let answer = client.rest().await;
        assert_eq!(status(&answer), 502, "{wrong:.90}: {answer}");
    }
}

#[actix_web::test]
async fn a_handshake_that_is_none_goes_no_further() {
    let stage = Stage::opens(&[]).await;
    let good = stage.handshake(QUERY);
    let bad = [
        good.replace("dGhlIHNhbXBsZSBub25jZQ==", "short"),
        good.replace("Sec-WebSocket-Key", "X-Key"),
        good.replace("Version: 13", "Version: 8"),
        good.replace("Connection: Upgrade\r\n", ""),
        good.replace(
            "Upgrade: websocket\r\n",
            "Upgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        ),
        good.replace("Upgrade: websocket\r\n", "Upgrade: websocket\r\nContent-Length: 5\r\n"),
        good.replace("Upgrade: websocket\r\n", "Upgrade: websocket\r\nOrigin: http://evil.example\r\n"),
        good.replace("auth_token", "other"),
    ];
    for bad in bad {
        let connection = if bad.contains("Connection") { "" } else { "Connection: close\r\n" };
        let bad = bad.replacen("\r\n", &format!("\r\n{connection}"), 1);
        let answer = stage.sends(&bad).await.head().await;
        assert!((400..500).contains(&status(&answer)), "{bad}: {answer}");
    }
    stage.one.is_untouched();
    stage.two.is_untouched();
}

#[actix_web::test]
async fn what_a_client_does_not_read_waits_at_the_node_and_arrives_whole() {
    let stage = Stage::opens(&[]).await;
    let (mut client, mut node) = opened(&stage).await;
    let piece: String = ('a'..='z').cycle().take(26 * 1_000).collect();
    let mut written = 0;
    while timeout(Duration::from_millis(300), node.stream.writable()).await.is_ok_and(|ready| ready.is_ok()) {
        let at = written % piece.len();
        match node.stream.try_write(&piece.as_bytes()[at..]) {
            Ok(count) => written += count,
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
        // The kernel's buffers of two connections; the gateway's own are some 50 KiB.
        assert!(written < 16 * 1024 * 1024, "nothing holds the node back");
    }
    assert!(written > 0);
    let got = client.takes(written).await;
    assert!(
        got.bytes().enumerate().all(|(index, byte)| usize::from(byte - b'a') == index % 26),
        "in order and whole"
    );
    client.writes("still there").await;
    assert_eq!(node.takes(11).await, "still there");
}
