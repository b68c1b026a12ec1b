//! Long-polling over real sockets, as raw HTTP: requests and their abuse. The handshake is in `handshake.rs`,
//! request bodies in `bodies.rs`, the upgrade in `upgrade.rs`.

#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::time::Duration;

use serde_json::json;
use socketio::{CloseReason, Config};
use support::{
    Client,
    http::{Poller, get, post},
    start,
};

const POLLING: &str = "EIO=4&transport=polling";

#[actix_rt::test]
async fn a_handshake_is_answered_at_once_with_the_open_packet_alone() {
    let server = start(Config::default());
    let response = Client::dial(server.address, None).await.fetch(&get(POLLING)).await;
    assert_eq!(response.packets().len(), 1);
    let open: serde_json::Value = serde_json::from_str(&response.body[1..]).unwrap();
    assert_eq!(open.as_object().unwrap().len(), 5);
    assert_eq!(open["upgrades"], json!(["websocket"]));
    assert_eq!(open["pingInterval"], json!(25_000));
    assert_eq!(open["pingTimeout"], json!(20_000));
    assert_eq!(open["maxPayload"], json!(1_000_000));
    assert_eq!(response.header("content-type"), Some("text/plain; charset=UTF-8"));
    assert_eq!(response.header("cache-control"), Some("no-store"));
    assert_eq!(response.header("access-control-allow-origin"), None);
}

#[actix_rt::test]
async fn a_poll_returns_everything_queued_or_waits() {
    let server = start(Config::default());
    let poller = Poller::join(&server).await;
    poller.send_text("421[\"a\"]\x1e422[\"b\"]\x1e423[\"c\"]").await;
    let response = poller.poll().await;
    assert_eq!(response.packets(), ["431[\"a\",[],1]", "432[\"b\",[],1]", "433[\"c\",[],1]"]);
    let mut waiting = poller.wait().await;
    poller.send_text("424[\"d\"]").await;
    assert_eq!(waiting.response().await.short(), (200, "434[\"d\",[],1]"));
}

#[actix_rt::test]
async fn a_response_has_at_most_sixteen_packets_and_the_next_one_the_rest() {
    let server = start(Config::default());
    let poller = Poller::join(&server).await;
    // Far more packets than one response contains: clients that accept sixteen would refuse a larger
    // response.
    poller.send_text("42[\"count\",200]").await;
    let mut received = Vec::new();
    for packets in [16; 12].into_iter().chain([8]) {
        let response = poller.poll().await;
        assert_eq!(response.packets().len(), packets);
        received.extend(response.packets().into_iter().map(str::to_owned));
    }
    let want: Vec<_> = (0..200).map(|number| format!("42[\"n\",{number}]")).collect();
    assert_eq!(received, want);
}

/// A proxy that drains limits a GET. What is queued meanwhile is in this or the next answer.
#[actix_rt::test]
async fn a_get_with_a_limit_waits_no_longer_and_loses_nothing() {
    let limited = |name: Option<&str>| Config {
        poll_limit_header: name.map(|name| name.parse().unwrap()),
        ..Config::default()
    };
    let server = start(limited(Some("x-limit")));
    let poller = Poller::join(&server).await;
    let limit = |value: &str| get(&poller.query()).replace("Host", &format!("X-Limit: {value}\r\nHost"));
    let mut waiting = poller.wait_for(limit("50").as_bytes()).await;
    assert_eq!(waiting.response().await.short(), (200, "6"));
    poller.send_text("421[\"a\"]").await;
    assert_eq!(poller.poll().await.short(), (200, "431[\"a\",[],1]"));
    // A limit that is longer than the wait, and values that are no limit.
    for (number, value) in ["20000", "", "-1", "1.5", "soon", "99999999999999999999999"].iter().enumerate() {
        let mut waiting = poller.wait_for(limit(value).as_bytes()).await;
        poller.send_text(&format!("42{number}[\"b\"]")).await;
        assert_eq!(waiting.response().await.short(), (200, &*format!("43{number}[\"b\",[],1]")), "{value}");
    }
    // Answers that are queued around the end of the wait.
    for number in 10..60 {
        let mut waiting = poller.wait_for(limit("1").as_bytes()).await;
        poller.send_text(&format!("42{number}[\"c\"]")).await;
        let mut received = waiting.response().await.body;
        while !received.contains("43") {
            received = poller.poll().await.body;
        }
        assert!(received.contains(&format!("43{number}[\"c\",[],1]")), "{received}");
    }
    let server = start(limited(None));
    let poller = Poller::join(&server).await;
    let ignored = get(&poller.query()).replace("Host", "X-Limit: 0\r\nHost");
    let mut waiting = poller.wait_for(ignored.as_bytes()).await;
    poller.send_text("421[\"a\"]").await;
    assert_eq!(waiting.response().await.short(), (200, "431[\"a\",[],1]"));
}

#[actix_rt::test]
async fn a_second_poll_ends_the_session() {
    let server = start(Config::default());
    let poller = Poller::join(&server).await;
    let mut first = poller.wait().await;
    assert_eq!(poller.poll().await.short(), (400, ""));
    assert_eq!(first.response().await.short(), (200, "1"));
    assert_eq!(server.next_close(), CloseReason::TransportError);
    poller.assert_unknown().await;
}

#[actix_rt::test]
async fn a_second_post_ends_the_session() {
    let server = start(Config::default());
    let poller = Poller::join(&server).await;
    let request = post(&poller.query(), "421[\"a\"]");
    let (head, tail) = request.as_bytes().split_at(request.len() - 3);
    let mut first = poller.wait_for(head).await;
    assert_eq!(poller.post("3").await.short(), (400, ""));
    first.send(tail).await;
    assert_eq!(first.response().await.status, 400);
    assert_eq!(server.next_close(), CloseReason::TransportError);
    poller.assert_unknown().await;
}

#[actix_rt::test]
async fn an_aborted_poll_ends_the_session() {
    let server = start(Config::default());
    for _ in 0..4 {
        let poller = Poller::join(&server).await;
        drop(poller.wait().await);
        assert_eq!(server.next_close(), CloseReason::TransportClose);
        poller.assert_unknown().await;
    }
}

#[actix_rt::test]
async fn a_close_packet_ends_the_session_and_releases_the_poll() {
    let server = start(Config::default());
    let poller = Poller::join(&server).await;
    let mut waiting = poller.wait().await;
    poller.send_text("1").await;
    assert_eq!(waiting.response().await.short(), (200, "6"));
    assert_eq!(server.next_close(), CloseReason::TransportClose);
    poller.assert_unknown().await;

    let poller = Poller::join(&server).await;
    poller.send_text("41\x1e1").await;
    assert_eq!(server.next_close(), CloseReason::ClientDisconnect);
    poller.assert_unknown().await;
}

#[actix_rt::test]
async fn a_server_close_flushes_the_queue_and_waits_for_the_next_poll() {
    let server = start(Config::default());
    for (event, last) in [("close", &[][..]), ("disconnect all", &["41"])] {
        let poller = Poller::join(&server).await;
        poller.send_text(&format!("42[\"count\",20]\x1e42[\"{event}\"]")).await;
        assert_eq!(server.next_close(), CloseReason::ServerClose);
        poller.send_text("421[\"ignored\"]").await;
        assert_eq!(poller.poll().await.packets().len(), 16);
        let response = poller.poll().await;
        assert_eq!(response.packets()[..4], ["42[\"n\",16]", "42[\"n\",17]", "42[\"n\",18]", "42[\"n\",19]"]);
        assert_eq!(response.packets()[4..], *last);
        assert_eq!(
            poller.poll().await.short(),
            (200, "1"),
            "the close packet is alone, as stock clients require"
        );
        poller.assert_unknown().await;
    }
}

#[actix_rt::test]
async fn pings_are_sent_with_polls_and_a_missing_pong_ends_the_session() {
    let config = Config {
        ping_interval: Duration::from_millis(300),
        ping_timeout: Duration::from_millis(300),
        ..Config::default()
    };
    let server = start(config);
    let poller = Poller::join(&server).await;
    for _ in 0..3 {
        assert_eq!(poller.poll().await.short(), (200, "2"));
        poller.send_text("3").await;
    }
    let mut waiting = poller.start_poll().await;
    assert_eq!(waiting.response().await.short(), (200, "2"));
    let mut waiting = poller.start_poll().await;
    assert_eq!(waiting.response().await.short(), (200, "1"));
    assert_eq!(server.next_close(), CloseReason::PingTimeout);
    poller.assert_unknown().await;
}

#[actix_rt::test]
async fn sessions_are_found_from_any_worker() {
    let server = start(Config::default());
    let first = Poller::join(&server).await;
    let second = loop {
        let other = Poller::join(&server).await;
        if other.worker != first.worker {
            break other;
        }
    };
    for poller in [&first, &second] {
        poller.send_text("420[\"join\",\"r\"]").await;
        assert_eq!(poller.poll().await.short(), (200, "430[\"join\",[null],1]"));
    }
    for (poller, other) in [(&first, Some(&second)), (&second, None)] {
        let mut remote = Client::dial_worker(server.address, &poller.worker, false).await;
        assert_eq!(remote.fetch(&post(&poller.query(), "421[\"a\"]")).await.short(), (200, "ok"));
        assert_eq!(remote.fetch(&get(&poller.query())).await.short(), (200, "431[\"a\",[],1]"));
        remote.send(get(&poller.query()).as_bytes()).await;
        server.broadcast("r", "news", json!(7)).await;
        assert_eq!(remote.response().await.short(), (200, "42[\"news\",7]"));
        if let Some(other) = other {
            assert_eq!(other.poll().await.short(), (200, "42[\"news\",7]"));
        }
        remote.send(get(&poller.query()).as_bytes()).await;
        drop(remote);
        assert_eq!(server.next_close(), CloseReason::TransportClose, "an abort on another worker");
        poller.assert_unknown().await;
    }
}
