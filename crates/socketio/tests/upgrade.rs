//! The upgrade from long-polling to a WebSocket over real sockets: the regular case, edge cases, and order
//! under traffic.

#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::time::Duration;

use serde_json::json;
use socketio::{CloseReason, Config, Operation};
use support::{
    Client, Frame, TestServer,
    http::{BAD_REQUEST, Poller, get, post},
    start, upgrade_request,
};

fn text(text: &str) -> Frame {
    Frame::Text(text.to_owned())
}

/// A session, and a WebSocket whose probe was answered.
async fn probed(server: &TestServer) -> (Poller, Client) {
    let poller = Poller::join(server).await;
    let mut probe = Client::probe(server.address, &poller.sid).await;
    probe.send_text("2probe").await;
    assert_eq!(probe.next().await, text("3probe"));
    (poller, probe)
}

/// A second WebSocket is closed at once.
async fn assert_probe_refused(address: std::net::SocketAddr, sid: &str) {
    let mut probe = Client::probe(address, sid).await;
    assert_eq!(probe.next().await, Frame::Close(1000));
    assert_eq!(probe.next().await, Frame::End);
}

/// The session uses this WebSocket.
async fn assert_active(client: &mut Client) {
    client.send_text("4299[\"ping\"]").await;
    assert_eq!(client.next().await, text("4399[\"ping\",[],1]"));
}

/// Polling requests of an upgraded session are refused.
async fn assert_polling_refused(poller: &Poller) {
    assert_eq!(poller.poll().await.short(), (400, BAD_REQUEST));
    assert_eq!(poller.post("3").await.short(), (400, BAD_REQUEST));
}

#[actix_rt::test]
async fn b64_in_the_url_of_a_websocket_requests_binary_data_as_base64() {
    let server = start(Config::default());
    let event = "451-[\"bytes\",{\"_placeholder\":true,\"num\":0}]";
    for (b64, is_base64) in [("", false), ("&b64=", false), ("&b64=1", true), ("&b64=0", true)] {
        let mut client = Client::dial(server.address, None).await;
        client.request(&upgrade_request(&format!("EIO=4&transport=websocket{b64}"))).await;
        let Frame::Text(open) = client.next().await else { panic!("the open packet") };
        assert!(open.starts_with('0'));
        client.connect().await;
        let mut probe = Client::dial(server.address, None).await;
        let poller = Poller::join(&server).await;
        probe.request(&upgrade_request(&format!("EIO=4&transport=websocket&sid={}{b64}", poller.sid))).await;
        probe.send_text("2probe").await;
        assert_eq!(probe.next().await, Frame::Text("3probe".into()));
        probe.send_text("5").await;
        for client in [&mut client, &mut probe] {
            client.send_text(event).await;
            client.send_text("bAAEC/w==").await;
            assert_eq!(client.next().await, Frame::Text(event.into()));
            let data = match is_base64 {
                true => Frame::Text("bAAEC/w==".into()),
                false => Frame::Binary(vec![0, 1, 2, 255]),
            };
            assert_eq!(client.next().await, data, "{b64}");
        }
    }
}

#[actix_rt::test]
async fn the_pending_poll_is_released_and_the_session_is_upgraded() {
    let server = start(Config::default());
    let poller = Poller::join(&server).await;
    let mut waiting = poller.wait().await;
    let mut probe = Client::probe(server.address, &poller.sid).await;
    probe.send_text("2probe").await;
    assert_eq!(probe.next().await, text("3probe"));
    assert_eq!(waiting.response().await.short(), (200, "6"));
    assert_eq!(poller.poll().await.short(), (200, "6"), "and every later poll");
    probe.send_text("5").await;
    assert_active(&mut probe).await;
    assert_polling_refused(&poller).await;
    assert_active(&mut probe).await;
}

#[actix_rt::test]
async fn packets_while_probing_are_sent_to_a_poll_or_wait_for_the_upgrade() {
    let server = start(Config::default());
    let (poller, mut probe) = probed(&server).await;
    poller.send_text("421[\"a\"]").await;
    assert_eq!(poller.poll().await.short(), (200, "431[\"a\",[],1]"));
    poller.send_text("422[\"b\"]\x1e423[\"c\"]").await;
    probe.send_text("5").await;
    assert_eq!(probe.next().await, text("432[\"b\",[],1]"));
    assert_eq!(probe.next().await, text("433[\"c\",[],1]"));
    assert_active(&mut probe).await;
}

#[actix_rt::test]
async fn a_post_in_progress_during_the_upgrade_is_processed() {
    let server = start(Config::default());
    let (poller, mut probe) = probed(&server).await;
    let request = post(&poller.query(), "421[\"a\"]");
    let (head, tail) = request.as_bytes().split_at(request.len() - 3);
    let mut posting = poller.wait_for(head).await;
    probe.send_text("5").await;
    assert_active(&mut probe).await;
    posting.send(tail).await;
    assert_eq!(posting.response().await.short(), (200, "ok"));
    assert_eq!(probe.next().await, text("431[\"a\",[],1]"));
}

#[actix_rt::test]
async fn a_ping_while_probing_can_be_answered_on_either_transport() {
    let config = Config {
        ping_interval: Duration::from_millis(300),
        ping_timeout: Duration::from_millis(1500),
        ..Config::default()
    };
    let server = start(config);
    let (poller, mut probe) = probed(&server).await;
    // No poll is pending, so the ping of this interval waits for the upgrade.
    tokio::time::sleep(Duration::from_millis(450)).await;
    probe.send_text("5").await;
    assert_eq!(probe.next_with_pings().await, text("2"));
    probe.send_text("3").await;
    for _ in 0..6 {
        assert_eq!(probe.next_with_pings().await, text("2"), "the heartbeat continues");
        probe.send_text("3").await;
    }
    assert_polling_refused(&poller).await;
}

#[actix_rt::test]
async fn only_one_websocket_may_probe_and_the_first_one_continues() {
    let server = start(Config::default());
    let (poller, mut probe) = probed(&server).await;
    for _ in 0..5 {
        assert_probe_refused(server.address, &poller.sid).await;
    }
    probe.send_text("5").await;
    assert_active(&mut probe).await;
    assert_probe_refused(server.address, &poller.sid).await;
    assert_active(&mut probe).await;
}

#[actix_rt::test]
async fn an_upgrade_timeout_closes_only_the_probe() {
    let server = start(Config { upgrade_timeout: Duration::from_millis(200), ..Config::default() });
    let (poller, mut probe) = probed(&server).await;
    assert!(matches!(probe.next().await, Frame::Close(_)));
    assert_eq!(probe.next().await, Frame::End);
    poller.assert_alive().await;
    let mut probe = Client::probe(server.address, &poller.sid).await;
    probe.send_text("2probe").await;
    assert_eq!(probe.next().await, text("3probe"));
    probe.send_text("5").await;
    assert_active(&mut probe).await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_active(&mut probe).await;
}

#[actix_rt::test]
async fn a_session_that_ends_while_probing_closes_the_probe() {
    let server = start(Config::default());
    let (poller, mut probe) = probed(&server).await;
    poller.send_text("1").await;
    assert!(matches!(probe.next().await, Frame::Close(_)));
    assert_eq!(probe.next().await, Frame::End);
    assert_eq!(server.next_close(), CloseReason::TransportClose);
    poller.assert_unknown().await;

    let mut late = Client::dial(server.address, None).await;
    let query = format!("EIO=4&transport=websocket&sid={}", poller.sid);
    let head = late.request(&upgrade_request(&query)).await;
    assert!(head.starts_with("HTTP/1.1 400"), "{head}");
    assert_eq!(late.rest().await, "Session ID unknown");
}

#[actix_rt::test]
async fn every_request_works_on_another_worker_than_the_sessions() {
    let server = start(Config::default());
    for is_same in [true, false] {
        let poller = Poller::join(&server).await;
        let mut waiting = Client::dial_worker(server.address, &poller.worker, false).await;
        waiting.send(get(&poller.query()).as_bytes()).await;
        let mut probe = Client::dial_worker(server.address, &poller.worker, is_same).await;
        probe.upgrade_probe(&poller.sid).await;
        probe.send_text("2probe").await;
        assert_eq!(probe.next().await, text("3probe"));
        assert_eq!(waiting.response().await.short(), (200, "6"));
        probe.send_text("5").await;
        assert_active(&mut probe).await;
        probe.send_text("42[\"count\",1000]").await;
        for number in 0..1000 {
            assert_eq!(probe.next().await, text(&format!("42[\"n\",{number}]")));
        }
        probe.send_text("42[\"close\"]").await;
        assert_eq!(probe.next().await, Frame::Close(1000));
        assert_eq!(probe.next().await, Frame::End);
        poller.assert_unknown().await;
    }
}

/// The number of a `tick` event, if the packet is one.
fn tick(packet: &str) -> Option<u64> {
    packet.strip_prefix("42[\"tick\",")?.strip_suffix(']')?.parse().ok()
}

/// Upgrades one session while `tick` events are broadcast to it. Returns the received numbers in order.
async fn upgrade_under_traffic(server: &TestServer, is_same_worker: bool) -> Vec<u64> {
    let poller = Poller::join(server).await;
    poller.send_text("42[\"join\",\"r\"]").await;
    let mut ticks = Vec::new();
    while ticks.len() < 20 {
        ticks.extend(poller.poll().await.packets().iter().filter_map(|packet| tick(packet)));
    }
    let mut probe = Client::dial_worker(server.address, &poller.worker, is_same_worker).await;
    probe.upgrade_probe(&poller.sid).await;
    let mut waiting = poller.start_poll().await;
    probe.send_text("2probe").await;
    assert_eq!(probe.next().await, text("3probe"));
    ticks.extend(waiting.response().await.packets().iter().filter_map(|packet| tick(packet)));
    probe.send_text("5").await;
    let end = ticks.len() + 200;
    while ticks.len() < end {
        let Frame::Text(packet) = probe.next().await else { panic!("a packet") };
        ticks.extend(tick(&packet));
    }
    ticks
}

#[actix_rt::test]
async fn an_upgrade_under_traffic_keeps_the_order_without_loss_or_duplicates() {
    let server = start(Config::default());
    let io = server.io.clone();
    let traffic = actix_rt::spawn(async move {
        for number in 0_u64.. {
            io.send(vec![Operation::Emit(support::broadcast("r", "tick", json!(number)))]).await;
            tokio::time::sleep(Duration::from_micros(300)).await;
        }
    });
    for round in 0..8 {
        let ticks = upgrade_under_traffic(&server, round % 2 == 0).await;
        let first = ticks[0];
        let want: Vec<_> = (first..first + ticks.len() as u64).collect();
        assert_eq!(ticks, want, "round {round}");
    }
    traffic.abort();
}

#[actix_rt::test]
async fn client_messages_keep_their_order_during_an_upgrade() {
    let server = start(Config::default());
    for _ in 0..10 {
        let (poller, mut probe) = probed(&server).await;
        for number in 0..10 {
            poller.send_text(&format!("42{number}[\"a\"]")).await;
        }
        let frames: Vec<_> =
            (10..20).map(|number| support::frame(0x81, format!("42{number}[\"a\"]").as_bytes())).collect();
        probe.send(&[support::frame(0x81, b"5"), frames.concat()].concat()).await;
        for number in 0..20 {
            assert_eq!(probe.next().await, text(&format!("43{number}[\"a\",[],1]")));
        }
    }
}
