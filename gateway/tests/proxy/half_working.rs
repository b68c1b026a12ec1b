//! Chat nodes that respond and work by half: they report that they are not ready, respond at the address of another node, or
//! refuse single requests.

use std::time::Duration;

use futures_util::future::join_all;
use gateway::Nodes;
use tokio::time::timeout;

use crate::{
    support::{OK_RESPONSE, Service, TestServer, open, status},
    switched_service::{Mode, SwitchedService},
};

/// Longer than any change of a state takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A node that responds to every request with 404 and this body.
fn reports(body: &str) -> Mode {
    let length = body.len();
    let response = format!("HTTP/1.1 404 Not Found\r\nContent-Length: {length}\r\n\r\n{body}");
    Mode::Responds(Box::leak(response.into_boxed_str()))
}

/// The nodes `one` and `due`, of which alice prefers the first.
struct Row {
    nodes: [Mode; 2],
    /// The node that gets alice's requests.
    reached: usize,
    /// Parts of the cause why the gateway is not ready. Empty when it is ready.
    not_ready: &'static [&'static str],
    /// Parts of the cause why it is degraded.
    degraded: &'static [&'static str],
}

fn rows() -> [Row; 7] {
    let no_store = reports(r#"{"node":"one","notReady":"MongoDB refuses connections"}"#);
    let no_log = reports(r#"{"node":"due","notReady":"Redis does not answer"}"#);
    let (ready, other) = (reports(r#"{"node":"due","notReady":null}"#), reports(r#"{"node":"tre"}"#));
    let row = |nodes, reached, not_ready: &'static [&'static str], degraded: &'static [&'static str]| Row {
        nodes,
        reached,
        not_ready,
        degraded,
    };
    [
        row([no_store, ready], 1, &[], &["one (http://", "is not ready: MongoDB refuses connections"]),
        // A node of an older release reports nothing.
        row([no_store, Mode::Works], 1, &[], &["one (http://", "is not ready: MongoDB refuses connections"]),
        row([Mode::Works, no_log], 0, &[], &["due (http://", "is not ready: Redis does not answer"]),
        row(
            [no_store, no_log],
            0,
            &[],
            &["one (http://", "MongoDB refuses connections", "due (http://", "Redis does not answer"],
        ),
        row([no_store, Mode::Refuses], 0, &[], &["MongoDB refuses connections", "connection refused"]),
        row([other, ready], 1, &[], &["the address of one is answered by tre: --advertise must reach"]),
        row([other, no_log], 1, &[], &["the address of one is answered by tre", "Redis does not answer"]),
    ]
}

fn fits(report: Option<String>, parts: &[&str]) -> bool {
    match report {
        Some(report) => !parts.is_empty() && parts.iter().all(|part| report.contains(part)),
        None => parts.is_empty(),
    }
}

/// Waits until the gateway reports these causes.
async fn becomes(server: &TestServer, not_ready: &[&str], degraded: &[&str]) {
    let proxy = &server.proxy;
    let until = async {
        while !fits(proxy.chat_not_ready_reason(), not_ready) || !fits(proxy.chat_degradation(), degraded) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let reports = || (proxy.chat_not_ready_reason(), proxy.chat_degradation());
    assert!(timeout(PATIENCE, until).await.is_ok(), "{not_ready:?} {degraded:?}: {:?}", reports());
}

/// Each kind of request of alice reaches this node only.
async fn all_reach(server: &TestServer, services: &[SwitchedService; 2], reached: usize, row: usize) {
    let post = "Content-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n";
    let requests = [
        server.head("GET /rooms", "Connection: close\r\n"),
        format!("{}{{}}", server.head("POST /rooms", post)),
        server.head("GET /socket.io/?EIO=4&transport=polling", "Connection: close\r\n"),
        server.handshake("EIO=4&transport=websocket"),
    ];
    for request in requests {
        let before = services.each_ref().map(SwitchedService::requests);
        let response = server.send(&request).await.read_to_end().await;
        assert_eq!(status(&response), 404, "row {row}: {request} {response}");
        let after = services.each_ref().map(SwitchedService::requests);
        let got = [after[0] - before[0], after[1] - before[1]];
        assert_eq!(got, [usize::from(reached == 0), usize::from(reached == 1)], "row {row}: {request}");
    }
}

#[actix_web::test]
async fn nodes_that_are_not_ready_are_used_only_when_no_node_is_ready() {
    let rows = rows().into_iter().enumerate().map(async |(number, row)| {
        let services = row.nodes.map(SwitchedService::start);
        let server = Box::pin(TestServer::start(&[])).await;
        let [one, due] = &services;
        server.nodes.send_replace(Nodes::new([open("one", &one.backend), open("due", &due.backend)]));
        server.proxy.watch_nodes();
        becomes(&server, row.not_ready, row.degraded).await;
        all_reach(&server, &services, row.reached, number).await;
        services.iter().for_each(|service| service.set(Mode::Works));
        becomes(&server, &[], &[]).await;
        all_reach(&server, &services, 0, number).await;
    });
    join_all(rows).await;
}

/// Whichever node responds at the address, requests reach any of them.
#[actix_web::test]
async fn nodes_with_one_address_degrade_the_gateway() {
    let service = SwitchedService::start(reports(r#"{"node":"one"}"#));
    let server = TestServer::start(&[]).await;
    server.nodes.send_replace(Nodes::new([open("one", &service.backend), open("due", &service.backend)]));
    server.proxy.watch_nodes();
    let cause = "due and one have the same address: --advertise must reach each node alone";
    becomes(&server, &[], &[cause, &service.backend.to_string()]).await;
    server.nodes.send_replace(Nodes::new([open("one", &service.backend)]));
    becomes(&server, &[], &[]).await;
}

/// How a request of alice fails at her preferred node.
const FAILURES: [(&str, &str, u16); 3] = [
    ("POST", "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", 503),
    ("GET", "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", 503),
    // The connection is cut.
    ("POST", "", 502),
];

#[actix_web::test]
async fn after_a_refused_request_the_next_one_goes_to_another_node() {
    for (method, response, expected) in FAILURES {
        let server = TestServer::start(&[]).await;
        let more = if method == "POST" {
            "Content-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n"
        } else {
            "Connection: close\r\n"
        };
        let body = if method == "POST" { "{}" } else { "" };
        let request = format!("{}{body}", server.head(&format!("{method} /rooms"), more));
        let mut client = server.send(&request).await;
        let mut refusing = server.one.accept().await;
        refusing.read_head().await;
        refusing.read(body.len()).await;
        refusing.write(response).await;
        drop(refusing);
        assert_eq!(status(&client.read_head().await), expected, "{method}");
        let mut client = server.send(&request).await;
        answer(&server.two).await;
        assert_eq!(status(&client.read_head().await), 200, "{method}");
        server.one.assert_no_connection();
    }
}

async fn answer(service: &Service) {
    let mut peer = service.accept().await;
    peer.read_head().await;
    peer.write(OK_RESPONSE).await;
}
