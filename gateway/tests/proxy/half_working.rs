//! Chat nodes that respond and work by half: they report that they are not ready, respond at the address of another node, or
//! refuse single requests.

use std::time::Duration;

use cluster::Nodes;
use futures_util::future::join_all;
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

fn rows() -> [Row; 10] {
    let no_store = reports(r#"{"node":"one","notReady":"MongoDB refuses connections"}"#);
    let no_log = reports(r#"{"node":"due","notReady":"Redis does not answer"}"#);
    let (ready, other) = (reports(r#"{"node":"due","notReady":null}"#), reports(r#"{"node":"tre"}"#));
    let (foreign, accounts) = (reports("not found"), reports(r#"{"role":"accounts"}"#));
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
        row(
            [accounts, Mode::Works],
            1,
            &[],
            &["one (http://", "responds is accounts, not a chat node: --advertise"],
        ),
        // Another program that responds to every request with 404.
        row(
            [foreign, ready],
            1,
            &[],
            &["one (http://", "another program responds, not a chat node: --advertise"],
        ),
        row(
            [foreign, accounts],
            0,
            &["another program responds, not a chat node", "responds is accounts, not a chat node"],
            &["another program responds, not a chat node", "responds is accounts, not a chat node"],
        ),
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

/// A response at the address of accounts, parts of the cause why the gateway is degraded, and the status of a login.
type AccountsRow = (Mode, &'static [&'static str], u16);

const REMEDY: &str = "--accounts-url (GODZILLA_ACCOUNTS_URL) must name";

fn accounts_rows() -> [AccountsRow; 7] {
    [
        (reports(r#"{"role":"accounts"}"#), &[], 404),
        // Accounts of an older release.
        (Mode::Works, &[], 404),
        (
            reports(r#"{"role":"accounts","notReady":"MongoDB refuses connections"}"#),
            &["is not ready: MongoDB refuses connections"],
            404,
        ),
        (reports(r#"{"role":"chat","node":"one"}"#), &["responds is chat, not accounts", REMEDY], 503),
        // A chat node of an older release.
        (reports(r#"{"node":"one"}"#), &["responds is chat, not accounts", REMEDY], 503),
        (reports("not found"), &["another program responds, not accounts", REMEDY], 503),
        // The admin address of a role.
        (
            reports(r#"{"status":"error","code":404,"message":"Not Found"}"#),
            &["another program responds, not accounts", REMEDY],
            503,
        ),
    ]
}

#[actix_web::test]
async fn a_service_of_another_role_at_the_address_of_accounts_is_named_and_gets_no_passwords() {
    let rows = accounts_rows().into_iter().map(async |(mode, degraded, login)| {
        let (accounts, node) = (SwitchedService::start(Mode::Refuses), SwitchedService::start(Mode::Works));
        let server = Box::pin(TestServer::start_with_accounts(accounts.backend.clone())).await;
        server.nodes.send_replace(Nodes::new([open("one", &node.backend)]));
        server.proxy.watch_nodes();
        becomes(&server, &[], &[]).await;
        let report = || server.proxy.accounts_degradation();
        let until = async |parts: &[&str]| {
            let until = async {
                while !fits(report(), parts) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            assert!(timeout(PATIENCE, until).await.is_ok(), "{mode:?} {parts:?}: {:?}", report());
        };
        until(&["connection refused"]).await;
        accounts.set(mode);
        let address = accounts.backend.to_string();
        let parts = [degraded, &[address.as_str()]].concat();
        until(if degraded.is_empty() { &[] } else { &parts }).await;
        assert_eq!(server.proxy.chat_not_ready_reason(), None, "{mode:?}: users who are logged in can chat");
        let more = "Content-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n";
        let request = format!("{}{{}}", server.head("POST /user/login", more));
        let response = server.send(&request).await.read_to_end().await;
        assert_eq!(status(&response), login, "{mode:?}: {response}");
        assert_eq!(accounts.requests(), usize::from(login == 404), "{mode:?}");
        accounts.set(Mode::Works);
        until(&[]).await;
    });
    join_all(rows).await;
}

/// The address of accounts is in the table of nodes, too.
#[actix_web::test]
async fn a_node_with_the_address_of_accounts_cannot_be_used() {
    for report in [r#"{"role":"accounts"}"#, r#"{"role":"chat","node":"one"}"#] {
        let service = SwitchedService::start(reports(report));
        let server = Box::pin(TestServer::start_with_accounts(service.backend.clone())).await;
        server.nodes.send_replace(Nodes::new([open("one", &service.backend)]));
        server.proxy.watch_nodes();
        let until = async {
            loop {
                let reports = [server.proxy.accounts_degradation(), server.proxy.chat_not_ready_reason()];
                if reports.iter().filter(|report| fits((*report).clone(), &["responds is"])).count() == 1 {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(timeout(PATIENCE, until).await.is_ok(), "{report}");
    }
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
