//! The server over real WebSockets: valid clients, invalid clients, and slow clients.

#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::time::Duration;

use serde_json::json;
use socketio::{CloseReason, Config, Operation};
use support::{Client, Frame, broadcast, frame, start, upgrade_request};
use tokio::io::AsyncWriteExt as _;

fn text(text: &str) -> Frame {
    Frame::Text(text.to_owned())
}

#[actix_rt::test]
async fn a_client_connects_and_its_events_are_answered_in_order() {
    let server = start(Config::default());
    let mut client = Client::join(&server).await;
    client.send_text("421[\"a\",1]").await;
    client.send_text("422[\"b\"]").await;
    assert_eq!(client.next().await, text("431[\"a\",[1],1]"));
    assert_eq!(client.next().await, text("432[\"b\",[],1]"));
}

#[actix_rt::test]
async fn a_batch_is_applied_in_order_on_every_worker() {
    let server = start(Config::default());
    let mut clients = Vec::new();
    for _ in 0..6 {
        let mut client = Client::join(&server).await;
        client.send_text("420[\"join\",\"u\"]").await;
        assert!(matches!(client.next().await, Frame::Text(_)));
        clients.push(client);
    }
    let batch = vec![
        Operation::Emit(broadcast("r", "n", json!("before"))),
        Operation::Join { of: "u".into(), room: "r".into() },
        Operation::Emit(broadcast("r", "n", json!("in"))),
        Operation::Leave { of: "u".into(), room: "r".into() },
        Operation::Emit(broadcast("r", "n", json!("after"))),
        Operation::Disconnect { of: "u".into(), close: Some(CloseReason::ServerClose) },
    ];
    server.io.send(batch).await;
    for client in &mut clients {
        assert_eq!(client.next().await, text("42[\"n\",\"in\"]"));
        assert_eq!(client.next().await, text("41"));
        assert_eq!(client.next().await, Frame::Close(1000));
        assert_eq!(client.next().await, Frame::End);
    }
}

#[actix_rt::test]
async fn the_server_can_await_an_ack_with_a_timeout() {
    let server = start(Config::default());
    let mut client = Client::join(&server).await;
    client.send_text("42[\"ask\"]").await;
    assert_eq!(client.next().await, text("420[\"question\",\"why\"]"));
    client.send_text("430[\"because\"]").await;
    assert_eq!(client.next().await, text("42[\"answer\",[\"because\"]]"));
    client.send_text("430[\"again\"]").await;
    client.send_text("42[\"ask\"]").await;
    assert_eq!(client.next().await, text("421[\"question\",\"why\"]"));
    assert_eq!(client.next().await, text("42[\"answer\",\"the client did not acknowledge in time\"]"));
}

#[actix_rt::test]
async fn the_first_ping_is_sent_after_one_interval_and_a_missing_pong_ends_the_session() {
    let interval = Duration::from_millis(300);
    let config =
        Config { ping_interval: interval, ping_timeout: Duration::from_millis(200), ..Config::default() };
    let server = start(config);
    let opened = std::time::Instant::now();
    let mut client = Client::join(&server).await;
    assert_eq!(client.next_with_pings().await, text("2"));
    assert!(opened.elapsed() >= interval, "not at once");
    client.send_text("3").await;
    assert_eq!(client.next_with_pings().await, text("2"));
    assert_eq!(client.next_with_pings().await, Frame::Close(1008));
    assert_eq!(client.next_with_pings().await, Frame::End);
    assert_eq!(server.next_close(), CloseReason::PingTimeout);
}

#[actix_rt::test]
async fn the_peer_receives_the_reason_of_every_kind_of_close() {
    let server = start(Config::default());
    let mut client = Client::join(&server).await;
    client.send_text("41").await;
    assert_eq!(server.next_close(), CloseReason::ClientDisconnect);
    client.connect().await;
    client.send_text("42[\"disconnect me\"]").await;
    assert_eq!(client.next().await, text("41"));
    assert_eq!(server.next_close(), CloseReason::ServerDisconnect);
    client.connect().await;
    client.send_text("42[\"close\"]").await;
    assert_eq!(client.next().await, Frame::Close(1000));
    assert_eq!(server.next_close(), CloseReason::ServerClose);

    let mut client = Client::join(&server).await;
    client.send_text("1").await;
    assert_eq!(client.next().await, Frame::Close(1000));
    assert_eq!(server.next_close(), CloseReason::TransportClose);

    let mut client = Client::join(&server).await;
    client.send(&frame(0x88, &[0x03, 0xE8])).await;
    assert_eq!(client.next().await, Frame::Close(1000));
    assert_eq!(client.next().await, Frame::End);
    assert_eq!(server.next_close(), CloseReason::TransportClose);

    drop(Client::join(&server).await);
    assert_eq!(server.next_close(), CloseReason::TransportClose);
}

#[actix_rt::test]
async fn a_message_at_the_limit_is_accepted_in_one_frame_and_in_fragments() {
    let server = start(Config { max_payload: 1000, ..Config::default() });
    let mut client = Client::join(&server).await;
    let packet = format!("427[\"x\",\"{}\"]", "y".repeat(1000 - 11));
    assert_eq!(packet.len(), 1000);
    client.send_text(&packet).await;
    let Frame::Text(whole) = client.next().await else { panic!("an ack") };
    let (head, tail) = packet.as_bytes().split_at(300);
    client.send(&[frame(0x01, head), frame(0x89, b"in between"), frame(0x80, tail)].concat()).await;
    assert_eq!(client.next().await, Frame::Pong(b"in between".to_vec()));
    assert_eq!(client.next().await, Frame::Text(whole));
}

#[actix_rt::test]
async fn invalid_handshakes_get_the_answers_of_the_reference_implementation() {
    let server = start(Config::default());
    let plain =
        |query: &str| format!("GET /socket.io/?{query} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let good = upgrade_request("EIO=4&transport=websocket");
    let twice = |header: &str| {
        assert!(good.contains(header), "{good}");
        good.replace(header, &header.repeat(2))
    };
    let version = "Missing or invalid Sec-WebSocket-Version header";
    let (key, connection) =
        ("Missing or invalid Sec-WebSocket-Key header", "Missing or invalid Connection header");
    let table = [
        (plain("EIO=4&transport=websocket"), r#"{"code":3,"message":"Bad request"}"#),
        (plain("EIO=4"), r#"{"code":0,"message":"Transport unknown"}"#),
        (plain("EIO=4&transport=websocket&sid=__proto__"), r#"{"code":1,"message":"Session ID unknown"}"#),
        (upgrade_request("EIO=3&transport=websocket"), "Unsupported protocol version"),
        (upgrade_request("EIO=4&transport=websocket&deny=1"), "denied"),
        (good.replace("HTTP/1.1", "HTTP/1.0"), "A WebSocket upgrade needs HTTP/1.1"),
        (good.replace("Version: 13", "Version: 8"), version),
        (good.replace("Sec-WebSocket-Version: 13\r\n", ""), version),
        (twice("Sec-WebSocket-Version: 13\r\n"), version),
        (twice("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"), key),
        (good.replace("dGhlIHNhbXBsZSBub25jZQ==", "short"), key),
        (good.replace("Connection: Upgrade\r\n", ""), connection),
        (good.replace("Connection: Upgrade", "Connection: close"), connection),
    ];
    for (request, body) in table {
        let mut client = Client::dial(server.address, None).await;
        let head = client.request(&request).await;
        if body == version {
            assert!(head.starts_with("HTTP/1.1 426 "), "{request}\n{head}");
            for header in ["sec-websocket-version: 13", "upgrade: websocket", "connection: close, upgrade"] {
                assert!(head.to_ascii_lowercase().contains(header), "{request}\n{head}");
            }
        } else {
            assert!(head.contains(" 400 "), "{request}\n{head}");
        }
        assert_eq!(client.rest().await, body, "{request}");
    }
}

#[actix_rt::test]
async fn a_client_that_does_not_read_is_closed_and_the_others_receive_everything() {
    let config = Config { stall_timeout: Duration::from_secs(1), ..Config::default() };
    let server = start(config);
    let mut reader = Client::join(&server).await;
    let mut stuck = Client::dial(server.address, Some(4096)).await;
    stuck.upgrade().await;
    stuck.connect().await;
    for client in [&mut reader, &mut stuck] {
        client.send_text("420[\"join\",\"r\"]").await;
        assert!(matches!(client.next().await, Frame::Text(_)));
    }
    let mut sent = 0;
    let filling = "z".repeat(4000);
    let closed = loop {
        server.broadcast("r", "n", json!([sent, filling])).await;
        let want = format!("42[\"n\",[{sent},\"{filling}\"]]");
        assert_eq!(reader.next().await, Frame::Text(want));
        sent += 1;
        match server.closes.try_recv() {
            Ok(reason) => break reason,
            Err(_) => assert!(sent < 100_000, "the stuck client is still connected"),
        }
    };
    assert_eq!(closed, CloseReason::Slow);
    assert_eq!(server.io.count().await, 1);
}

#[actix_rt::test]
async fn a_flood_of_tiny_frames_waits_in_the_kernel() {
    let server = start(Config::default());
    let mut client = Client::join(&server).await;
    let events = frame(0x81, b"42[\"x\"]").repeat(50_000);
    client.send(&events).await;
    client.send_text("421[\"still here\"]").await;
    assert_eq!(client.next().await, text("431[\"still here\",[],1]"));
}

#[actix_rt::test]
async fn a_message_that_exceeds_the_body_timeout_closes_the_connection() {
    let server = start(Config { body_timeout: Duration::from_millis(300), ..Config::default() });
    let mut client = Client::join(&server).await;
    let message = frame(0x81, format!("42[\"{}\"]", "x".repeat(1000)).as_bytes());
    for byte in message {
        if client.stream.write_all(&[byte]).await.is_err() || server.closes.try_recv().is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(client.next().await, Frame::Close(1008));
    assert_eq!(client.next().await, Frame::End);
}
