//! Request bodies of long-polling: framing, size limits, and packets. Raw HTTP over real sockets.

#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::time::Duration;

use socketio::{CloseReason, Config};
use support::{
    http::{Poller, post, post_in_chunks},
    start,
};

#[actix_rt::test]
async fn a_body_with_more_events_than_the_send_queue_holds_acks_receives_all_acks() {
    let server = start(Config { send_queue_frames: 256, ..Config::default() });
    let poller = Poller::join(&server).await;
    let body: Vec<String> = (0..600).map(|n| format!("42{n}[\"a\"]")).collect();
    let mut posting = poller.start(&post(&poller.query(), &body.join("\x1e"))).await;
    let mut received = Vec::new();
    while received.len() < 600 {
        received.extend(poller.poll().await.packets().into_iter().map(str::to_owned));
    }
    let want: Vec<String> = (0..600).map(|n| format!("43{n}[\"a\",[],1]")).collect();
    assert_eq!(received, want);
    assert_eq!(posting.response().await.short(), (200, "ok"));
}

#[actix_rt::test]
async fn bodies_may_be_chunked_and_split_anywhere() {
    let server = start(Config::default());
    let poller = Poller::join(&server).await;
    let body = "421[\"é€😀\"]";
    for cut in 1..body.len() {
        let (head, tail) = body.as_bytes().split_at(cut);
        let mut client = poller.start(&post_in_chunks(&poller.query())).await;
        for part in [head, tail] {
            client.send(format!("{:x}\r\n", part.len()).as_bytes()).await;
            client.send(part).await;
            client.send(b"\r\n").await;
        }
        client.send(b"0\r\n\r\n").await;
        assert_eq!(client.response().await.short(), (200, "ok"), "{cut}");
        assert_eq!(poller.poll().await.packets(), ["431[\"é€😀\",[],1]"], "{cut}");
    }
    let request = post(&poller.query(), body);
    for cut in request.len() - body.len()..request.len() {
        let mut client = poller.wait_for(&request.as_bytes()[..cut]).await;
        client.send(&request.as_bytes()[cut..]).await;
        assert_eq!(client.response().await.short(), (200, "ok"), "{cut}");
        assert_eq!(poller.poll().await.packets(), ["431[\"é€😀\",[],1]"], "{cut}");
    }
}

#[actix_rt::test]
async fn a_body_that_exceeds_the_body_timeout_ends_the_session() {
    let server = start(Config { body_timeout: Duration::from_millis(200), ..Config::default() });
    let poller = Poller::join(&server).await;
    let request = post(&poller.query(), "421[\"a\"]");
    let mut client = poller.wait_for(&request.as_bytes()[..request.len() - 3]).await;
    assert_eq!(client.response().await.status, 408);
    assert_eq!(server.next_close(), CloseReason::TransportError);
    poller.assert_unknown().await;
}

/// A body with one event of exactly `bytes` bytes, and fewer characters.
fn body_of(bytes: usize) -> String {
    let frame = "421[\"x\",\"\"]".len();
    let filling = "é".repeat((bytes - frame) / 2) + &"y".repeat((bytes - frame) % 2);
    format!("421[\"x\",\"{filling}\"]")
}

#[actix_rt::test]
async fn a_body_at_the_limit_is_accepted_and_one_past_it_is_refused() {
    let server = start(Config { max_payload: 1000, ..Config::default() });
    let poller = Poller::join(&server).await;
    assert_eq!(body_of(1000).len(), 1000);
    poller.send_text(&body_of(1000)).await;
    assert!(poller.poll().await.body.starts_with("431[\"x\",[\"é"));
    assert_eq!(poller.post(&body_of(1001)).await.short(), (413, ""));

    let mut client = poller.start(&post_in_chunks(&poller.query())).await;
    client.send(format!("3e9\r\n{}\r\n0\r\n\r\n", body_of(1001)).as_bytes()).await;
    assert_eq!(client.response().await.short(), (413, ""));
    poller.assert_alive().await;
}

#[actix_rt::test]
async fn a_body_is_refused_by_its_declared_length() {
    let server = start(Config { max_payload: 1000, ..Config::default() });
    let poller = Poller::join(&server).await;
    let declared = post(&poller.query(), "").replace("Length: 0", "Length: 104857600");
    let mut client = poller.start(&declared).await;
    assert_eq!(client.response().await.short(), (413, ""));
    poller.assert_alive().await;
}

#[actix_rt::test]
async fn after_a_message_that_is_refused_the_queue_is_delivered_and_then_a_close_packet() {
    let server = start(Config::default());
    for (bad, reason) in [
        ("4", CloseReason::ParseError),
        ("42[\"newListener\"]", CloseReason::ParseError),
        ("bAQID", CloseReason::ParseError),
        ("40", CloseReason::ProtocolViolation),
        ("42/other,[\"a\"]", CloseReason::ProtocolViolation),
        ("4599-[\"a\"]", CloseReason::TooManyAttachments),
    ] {
        let poller = Poller::join(&server).await;
        poller.send_text(&format!("421[\"good\"]\x1e{bad}\x1e422[\"ignored\"]")).await;
        assert_eq!(server.next_close(), reason, "{bad:?}");
        poller.send_text("423[\"ignored\"]").await;
        assert_eq!(poller.poll().await.short(), (200, "431[\"good\",[],1]"), "{bad:?}");
        assert_eq!(poller.poll().await.short(), (200, "1"), "{bad:?}");
        poller.assert_unknown().await;

        let poller = Poller::join(&server).await;
        let mut waiting = poller.wait().await;
        poller.send_text(bad).await;
        assert_eq!(waiting.response().await.short(), (200, "1"), "{bad:?}");
        assert_eq!(server.next_close(), reason, "{bad:?}");
        poller.assert_unknown().await;
    }
}

#[actix_rt::test]
async fn binary_arguments_are_base64_in_both_directions() {
    let server = start(Config::default());
    let poller = Poller::join(&server).await;
    let event = "452-[\"bytes\",{\"_placeholder\":true,\"num\":0},{\"_placeholder\":true,\"num\":1}]";
    let expected = ["451-[\"bytes\",{\"_placeholder\":true,\"num\":0}]", "bAAEC/w=="];
    poller.send_text(&format!("{event}\x1ebAAE=\x1ebAv8=")).await;
    assert_eq!(poller.poll().await.packets(), expected);
    poller.send_text(event).await;
    poller.send_text("bAAE=").await;
    poller.send_text("3").await;
    poller.send_text("bAv8=").await;
    assert_eq!(poller.poll().await.packets(), expected);
    assert_eq!(poller.post("bnot base64").await.status, 400);
    poller.assert_unknown().await;
}
