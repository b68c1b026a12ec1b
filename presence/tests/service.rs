//! Tests of the presence service over TCP: unary calls, the report stream, health, limits, shutdown.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{net::SocketAddr, time::Duration};

use proto::presence::{
    Connections, Empty, Heartbeat, NodeReport, RosterUpdate, SetTypingRequest, Snapshot, UserRequest,
    node_report::Report, presence_service_client::PresenceServiceClient, roster_update::Update,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming, transport::Channel};

type Client = PresenceServiceClient<Channel>;

/// A running service. It stops when `stop` is used or dropped.
struct Running {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    ended: oneshot::Receiver<Result<(), presence::Error>>,
}

/// A node's end of a report stream.
struct Node {
    reports: mpsc::Sender<NodeReport>,
    updates: Streaming<RosterUpdate>,
}

fn start(config: presence::Config) -> Running {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let ended = presence::start(listener, config, async {
        let _ = stopped.await;
    });
    Running { address, stop, ended }
}

fn quick() -> presence::Config {
    presence::Config { presence_flush: Duration::from_millis(10), ..Default::default() }
}

async fn channel(running: &Running) -> Channel {
    Channel::from_shared(format!("http://{}", running.address)).unwrap().connect().await.unwrap()
}

async fn client(running: &Running) -> Client {
    Client::new(channel(running).await)
}

fn user(name: &str) -> UserRequest {
    UserRequest { username: name.into() }
}

fn typing(name: &str, is_typing: bool, room: &str) -> SetTypingRequest {
    SetTypingRequest { username: name.into(), is_typing, room: room.into() }
}

fn snapshot(node: &str, users: &[(&str, u32)], more: bool) -> NodeReport {
    let users =
        users.iter().map(|(name, count)| Connections { username: (*name).into(), count: *count }).collect();
    NodeReport { report: Some(Report::Snapshot(Snapshot { node: node.into(), users, more })) }
}

async fn report(client: &mut Client, first: Vec<NodeReport>) -> Result<Node, tonic::Status> {
    let (reports, received) = mpsc::channel(16);
    for report in first {
        reports.send(report).await.unwrap();
    }
    let updates = client.report(ReceiverStream::new(received)).await?.into_inner();
    Ok(Node { reports, updates })
}

#[actix_rt::test]
#[cfg(debug_assertions)]
async fn a_call_that_panics_fails_and_no_other_call_or_stream_does() {
    let running = start(quick());
    let (mut one, mut other) = (client(&running).await, client(&running).await);
    let mut node = report(&mut other, vec![snapshot("a", &[("bob", 1)], false)]).await.unwrap();
    assert!(matches!(next(&mut node).await, Some(Update::Online(_))));
    supervision::fault::arm("call");
    let answer = timeout(Duration::from_secs(20), one.get_online_users(Empty {})).await.unwrap();
    assert!(answer.is_err(), "{answer:?}");
    for client in [&mut one, &mut other] {
        let online = client.get_online_users(Empty {}).await.unwrap().into_inner();
        assert_eq!(online.usernames, ["bob"]);
    }
    other.user_connected(user("carol")).await.unwrap();
    assert!(matches!(next(&mut node).await, Some(Update::Diff(_))), "the stream is open");
}

/// The next update that is not a heartbeat; `None` when the stream has ended.
async fn next(node: &mut Node) -> Option<Update> {
    loop {
        let update =
            timeout(Duration::from_secs(10), node.updates.message()).await.expect("an update in time");
        match update.ok().flatten().and_then(|update| update.update) {
            Some(Update::Heartbeat(_)) => {}
            other => return other,
        }
    }
}

#[actix_rt::test]
async fn the_five_unary_calls_of_the_original_service_work() {
    let running = start(quick());
    let mut client = client(&running).await;
    let online = client.user_connected(user("bob")).await.unwrap().into_inner();
    assert_eq!(online.usernames, ["bob"]);
    let online = client.user_connected(user("alice")).await.unwrap().into_inner();
    assert_eq!(online.usernames, ["alice", "bob"]);
    client.user_connected(user("bob")).await.unwrap();
    client.set_typing(typing("bob", true, "")).await.unwrap();
    client.set_typing(typing("bob", true, "team")).await.unwrap();
    client.set_typing(typing("alice", true, "team")).await.unwrap();
    assert_eq!(client.get_typing_users(Empty {}).await.unwrap().into_inner().usernames, ["alice", "bob"]);
    client.set_typing(typing("alice", false, "team")).await.unwrap();
    client.user_disconnected(user("bob")).await.unwrap();
    assert_eq!(client.get_online_users(Empty {}).await.unwrap().into_inner().usernames, ["alice", "bob"]);
    assert_eq!(client.get_typing_users(Empty {}).await.unwrap().into_inner().usernames, ["bob"]);
    client.user_disconnected(user("bob")).await.unwrap();
    assert_eq!(client.get_online_users(Empty {}).await.unwrap().into_inner().usernames, ["alice"]);
    assert!(client.get_typing_users(Empty {}).await.unwrap().into_inner().usernames.is_empty());
}

#[actix_rt::test]
async fn a_bad_name_is_an_invalid_argument_and_changes_nothing() {
    let running = start(quick());
    let mut client = client(&running).await;
    for bad in ["", "a b", "é", &"x".repeat(33), &"x".repeat(4096)] {
        assert_eq!(
            client.user_connected(user(bad)).await.unwrap_err().code(),
            Code::InvalidArgument,
            "{bad:?}"
        );
        assert_eq!(client.user_disconnected(user(bad)).await.unwrap_err().code(), Code::InvalidArgument);
        assert_eq!(client.set_typing(typing(bad, true, "")).await.unwrap_err().code(), Code::InvalidArgument);
    }
    assert_eq!(
        client.set_typing(typing("a", true, "no room")).await.unwrap_err().code(),
        Code::InvalidArgument
    );
    assert!(client.get_online_users(Empty {}).await.unwrap().into_inner().usernames.is_empty());
}

#[actix_rt::test]
async fn a_message_over_64_kib_is_refused() {
    let running = start(quick());
    let mut client = client(&running).await;
    // Tag and length take 4 bytes at this size.
    let name = "x".repeat((64 << 10) - 3);
    assert_eq!(client.user_connected(user(&name)).await.unwrap_err().code(), Code::OutOfRange);
}

#[actix_rt::test]
async fn a_node_reports_users_and_receives_updates_and_its_users_leave_with_it() {
    let running = start(quick());
    let mut client = client(&running).await;
    let first = vec![snapshot("n1", &[("alice", 1)], true), snapshot("n1", &[("bob", 2)], false)];
    let mut node = report(&mut client, first).await.unwrap();
    let Some(Update::Online(online)) = next(&mut node).await else { panic!("no list") };
    assert_eq!(online.usernames, ["alice", "bob"]);
    let other = report(&mut client, vec![snapshot("n2", &[("carol", 1)], false)]).await.unwrap();
    assert!(
        matches!(next(&mut node).await, Some(Update::Diff(diff)) if diff.joined == ["carol"] && diff.count == 3)
    );
    let reports = [
        Report::Heartbeat(Heartbeat {}),
        Report::Change(Connections { username: "bob".into(), count: 0 }),
        Report::Typing(typing("alice", true, "")),
    ];
    for report in reports {
        node.reports.send(NodeReport { report: Some(report) }).await.unwrap();
    }
    let (mut left, mut typists) = (vec![], vec![]);
    while left.is_empty() || typists.is_empty() {
        match next(&mut node).await {
            Some(Update::Diff(diff)) => left = diff.left,
            Some(Update::Typing(typing)) => typists = typing.usernames,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((left, typists), (vec!["bob".to_owned()], vec!["alice".to_owned()]));
    drop(other);
    assert!(
        matches!(next(&mut node).await, Some(Update::Diff(diff)) if diff.left == ["carol"] && diff.count == 1)
    );
}

#[actix_rt::test]
async fn a_stream_that_does_not_begin_with_a_valid_snapshot_is_refused() {
    let running = start(quick());
    let mut client = client(&running).await;
    let heartbeat = NodeReport { report: Some(Report::Heartbeat(Heartbeat {})) };
    let bad = [
        vec![heartbeat],
        vec![NodeReport { report: None }],
        vec![snapshot("", &[], false)],
        vec![snapshot("n1", &[("no name", 1)], false)],
        vec![snapshot("n1", &[("a", 1)], true), snapshot("n2", &[("b", 1)], false)],
    ];
    for first in bad {
        let shown = format!("{first:?}");
        let refused = report(&mut client, first).await.err().map(|status| status.code());
        assert_eq!(refused, Some(Code::InvalidArgument), "{shown}");
    }
}

#[actix_rt::test]
async fn health_is_served_and_reflection_only_when_enabled() {
    use tonic_health::pb::{
        HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
    };
    for grpc_reflection in [false, true] {
        let running = start(presence::Config { grpc_reflection, ..quick() });
        let channel = channel(&running).await;
        let mut health = HealthClient::new(channel.clone());
        for service in ["", "presence.PresenceService"] {
            let answer =
                health.check(HealthCheckRequest { service: service.into() }).await.unwrap().into_inner();
            assert_eq!(answer.status(), ServingStatus::Serving, "{service}");
        }
        assert_eq!(reflection(channel).await, grpc_reflection);
    }
}

/// Whether the service lists its services.
async fn reflection(channel: Channel) -> bool {
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest,
    };
    let message_request = Some(MessageRequest::ListServices(String::new()));
    let list = ServerReflectionRequest { host: String::new(), message_request };
    ServerReflectionClient::new(channel).server_reflection_info(tokio_stream::once(list)).await.is_ok()
}

#[actix_rt::test]
async fn a_stopped_service_ends_its_streams() {
    let running = start(quick());
    let mut client = client(&running).await;
    let mut node = report(&mut client, vec![snapshot("n1", &[], false)]).await.unwrap();
    assert!(matches!(next(&mut node).await, Some(Update::Online(_))));
    running.stop.send(()).unwrap();
    assert_eq!(next(&mut node).await, None);
    drop((node, client));
    timeout(Duration::from_secs(10), running.ended).await.expect("an end in time").unwrap().unwrap();
    assert!(tokio::net::TcpStream::connect(running.address).await.is_err());
}
