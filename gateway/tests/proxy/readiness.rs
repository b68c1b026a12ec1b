//! What a gateway reports about its services, without any request of a client.

use std::time::Duration;

use cluster::{Node, Nodes};
use tokio::time::timeout;

use crate::{
    support::{TestServer, open},
    switched_service::{Mode, SwitchedService},
};

/// Longer than any change of a state takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// The modes in which a service cannot be used, with a part of the cause in the report.
const BROKEN: [(Mode, &str); 7] = [
    (Mode::Refuses, "connection refused"),
    (Mode::Hangs, "no answer in time"),
    (Mode::Closes, "closed without a response"),
    (Mode::Responds("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"), "identity key"),
    (Mode::Responds("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"), "with status 503"),
    (Mode::Responds("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), "with status 200"),
    (Mode::Responds("220 mail.example ESMTP\r\n"), "is malformed"),
];

/// A gateway that probes these two nodes and this accounts service, which no client uses.
async fn gateway(one: &SwitchedService, two: &SwitchedService) -> TestServer {
    let server = TestServer::start(&[]).await;
    server.nodes.send_replace(Nodes::new([open("one", &one.backend), open("two", &two.backend)]));
    server.proxy.watch_nodes();
    server
}

/// Waits until the report fits.
async fn becomes(what: &str, report: impl Fn() -> Option<String>, fits: impl Fn(Option<&str>) -> bool) {
    let until = async {
        while !fits(report().as_deref()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(timeout(PATIENCE, until).await.is_ok(), "{what}: {:?}", report());
}

fn names(report: Option<&str>, cause: &str, services: &[&SwitchedService]) -> bool {
    let has =
        |service: &&SwitchedService| report.is_some_and(|text| text.contains(&service.backend.to_string()));
    report.is_some_and(|text| text.contains(cause)) && services.iter().all(has)
}

/// All nodes are broken from the start, then one works, then both, then one and both are broken again, and both work.
#[actix_web::test]
async fn a_gateway_is_ready_while_one_node_works_and_names_the_others_with_the_cause() {
    let rows = BROKEN.map(async |(broken, cause)| {
        let (one, two) = (SwitchedService::start(broken), SwitchedService::start(broken));
        let server = Box::pin(gateway(&one, &two)).await;
        let not_ready = || server.proxy.chat_not_ready_reason();
        let degraded = || server.proxy.chat_degradation();
        becomes(cause, not_ready, |report| names(report, cause, &[&one, &two])).await;
        one.set(Mode::Works);
        becomes(cause, not_ready, |report| report.is_none()).await;
        becomes(cause, degraded, |report| names(report, cause, &[&two])).await;
        assert!(!degraded().unwrap().contains(&one.backend.to_string()), "{cause}");
        two.set(Mode::Works);
        becomes(cause, degraded, |report| report.is_none()).await;
        one.set(broken);
        becomes(cause, degraded, |report| names(report, cause, &[&one])).await;
        assert_eq!(not_ready(), None, "{cause}");
        two.set(broken);
        becomes(cause, not_ready, |report| names(report, cause, &[&one, &two])).await;
        one.set(Mode::Works);
        two.set(Mode::Works);
        becomes(cause, not_ready, |report| report.is_none()).await;
        becomes(cause, degraded, |report| report.is_none()).await;
    });
    futures_util::future::join_all(rows).await;
}

#[actix_web::test]
async fn causes_of_different_nodes_are_reported_together() {
    let (one, two) = (SwitchedService::start(Mode::Refuses), SwitchedService::start(Mode::Closes));
    let server = gateway(&one, &two).await;
    let not_ready = || server.proxy.chat_not_ready_reason();
    becomes("both", not_ready, |report| {
        names(report, "connection refused", &[&one]) && names(report, "closed without a response", &[&two])
    })
    .await;
    let reason = not_ready().unwrap();
    assert!(reason.contains(&format!("one ({})", one.backend)), "{reason}");
}

/// A node that starts or drains makes no gateway ready, and does not have to respond.
#[actix_web::test]
async fn closed_nodes_are_not_usable_and_not_reported_as_faulty() {
    let (one, two) = (SwitchedService::start(Mode::Works), SwitchedService::start(Mode::Refuses));
    let server = gateway(&one, &two).await;
    let closed = |name: &str, service: &SwitchedService| {
        (name.to_owned(), Node { backend: service.backend.clone(), is_open: false })
    };
    server.nodes.send_replace(Nodes::new([open("one", &one.backend), closed("two", &two)]));
    becomes("the open node", || server.proxy.chat_not_ready_reason(), |report| report.is_none()).await;
    assert_eq!(server.proxy.chat_degradation(), None);
    server.nodes.send_replace(Nodes::new([closed("one", &one), closed("two", &two)]));
    let reason = server.proxy.chat_not_ready_reason().unwrap();
    assert!(reason.contains("one, two start or drain"), "{reason}");
    server.nodes.send_replace(Nodes::default());
    assert_eq!(server.proxy.chat_not_ready_reason().unwrap(), "has no live node in the table of nodes");
}

#[actix_web::test]
async fn an_accounts_service_that_cannot_be_used_degrades_the_gateway() {
    let rows = BROKEN.map(async |(broken, cause)| {
        let accounts = SwitchedService::start(Mode::Works);
        let node = SwitchedService::start(Mode::Works);
        let server = Box::pin(TestServer::start_with_accounts(accounts.backend.clone())).await;
        server.nodes.send_replace(Nodes::new([open("one", &node.backend)]));
        server.proxy.watch_nodes();
        let degraded = || server.proxy.accounts_degradation();
        becomes(cause, || server.proxy.chat_not_ready_reason(), |report| report.is_none()).await;
        assert_eq!(degraded(), None, "{cause}");
        accounts.set(broken);
        becomes(cause, degraded, |report| names(report, cause, &[&accounts])).await;
        assert_eq!(server.proxy.chat_not_ready_reason(), None, "{cause}: users who are logged in can chat");
        accounts.set(Mode::Works);
        becomes(cause, degraded, |report| report.is_none()).await;
    });
    futures_util::future::join_all(rows).await;
}
