//! The heads of a session's requests: of the handshake, of each poll, of each POST and of the upgrade.

#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use serde_json::{Value, json};
use socketio::Config;
use support::{
    Client, Frame, TestServer,
    http::{Poller, get, post},
    start, upgrade_request,
};

const POLLING: &str = "EIO=4&transport=polling";

/// The request with a header `x-name`.
fn named(request: &str, name: &str) -> String {
    request.replacen("\r\n", &format!("\r\nX-Name: {name}\r\n"), 1)
}

/// A long-polling session in `/` whose handshake has the name `handshake`.
async fn join(server: &TestServer) -> Poller {
    let mut client = Client::dial(server.address, None).await;
    let response = client.fetch(&named(&get(POLLING), "handshake")).await;
    let open: Value = serde_json::from_str(&response.body[1..]).unwrap();
    let (sid, worker) = (open["sid"].as_str().unwrap().to_owned(), response.header("x-worker").unwrap());
    let poller = Poller { address: server.address, sid, worker: worker.to_owned() };
    poller.send_text("40").await;
    assert_eq!(poller.poll().await.packets().len(), 3);
    poller
}

/// The heads in the packet `43<id>[...]`.
fn heads(packet: &str, id: u32) -> Value {
    serde_json::from_str(packet.strip_prefix(&format!("43{id}")).unwrap()).unwrap()
}

#[actix_rt::test]
async fn a_peer_reads_the_heads_of_the_handshake_and_of_the_request_with_the_event() {
    let server = start(Config { request_heads: true, ..Config::default() });
    let poller = join(&server).await;
    let query = poller.query();
    let handshake = json!(["GET", "handshake", POLLING, true]);
    for (id, name) in [(1, "first"), (2, "second")] {
        // The GET is processed after the POST has begun, and before its body is read.
        let request = named(&post(&query, &format!("42{id}[\"request\"]")), name);
        let (head, body) = request.split_at(request.len() - 1);
        let mut posting = poller.wait_for(head.as_bytes()).await;
        let mut waiting = poller.wait_for(named(&get(&query), "poll").as_bytes()).await;
        posting.send(body.as_bytes()).await;
        assert_eq!(posting.response().await.short(), (200, "ok"));
        let seen = heads(waiting.response().await.packets()[0], id);
        assert_eq!(seen, json!([handshake, ["POST", name, query, true]]));
    }

    let upgrade = format!("EIO=4&transport=websocket&sid={}", poller.sid);
    let mut probe = Client::dial(server.address, None).await;
    probe.request(&named(&upgrade_request(&upgrade), "upgrade")).await;
    probe.send_text("2probe").await;
    assert_eq!(probe.next().await, Frame::Text("3probe".into()));
    probe.send_text("5").await;
    probe.send_text("423[\"request\"]").await;
    let Frame::Text(ack) = probe.next().await else { panic!("an ack") };
    assert_eq!(heads(&ack, 3), json!([handshake, ["GET", "upgrade", upgrade, true]]));
}
