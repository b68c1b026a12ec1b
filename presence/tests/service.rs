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
    let (_, ended) = presence::start(listener, config, async {
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

#[actix::test]
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

#[actix::test]
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

#[actix::test]
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

#[actix::test]
async fn a_message_of_64_kib_is_accepted_and_a_larger_one_refused() {
    let running = start(quick());
    let mut client = client(&running).await;
    // Tag and length take 4 bytes at this size.
    let name = "x".repeat((64 << 10) - 4);
    assert_eq!(client.user_connected(user(&name)).await.unwrap_err().code(), Code::InvalidArgument);
    let name = "x".repeat((64 << 10) - 3);
    assert_eq!(client.user_connected(user(&name)).await.unwrap_err().code(), Code::ResourceExhausted);
}

/// A request whose name is a field of raw bytes.
#[derive(Clone, PartialEq, prost::Message)]
struct RawUser {
    #[prost(bytes = "vec", tag = "1")]
    username: Vec<u8>,
    #[prost(string, tag = "99")]
    unknown: String,
}

async fn raw_call(running: &Running, message: RawUser) -> Result<(), tonic::Status> {
    let mut grpc = tonic::client::Grpc::new(channel(running).await);
    grpc.ready().await.unwrap();
    let path =
        tonic::codegen::http::uri::PathAndQuery::from_static("/presence.PresenceService/UserConnected");
    let codec = tonic_prost::ProstCodec::<RawUser, proto::presence::OnlineUsersResponse>::default();
    grpc.unary(tonic::Request::new(message), path, codec).await.map(|_| ())
}

#[actix::test]
async fn invalid_utf8_is_an_invalid_argument_and_unknown_fields_are_ignored() {
    let running = start(quick());
    let bad = RawUser { username: vec![0xff, 0xfe], unknown: String::new() };
    assert_eq!(raw_call(&running, bad).await.unwrap_err().code(), Code::InvalidArgument);
    let newer = RawUser { username: b"alice".to_vec(), unknown: "news".into() };
    raw_call(&running, newer).await.unwrap();
}

#[actix::test]
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

#[actix::test]
async fn a_stream_that_does_not_begin_with_a_valid_snapshot_is_refused() {
    let running = start(quick());
    let mut client = client(&running).await;
    let heartbeat = NodeReport { report: Some(Report::Heartbeat(Heartbeat {})) };
    let bad = [
        vec![heartbeat],
        vec![NodeReport { report: None }],
        vec![snapshot("", &[], false)],
        vec![snapshot("unary", &[], false)],
        vec![snapshot("n1", &[("no name", 1)], false)],
        vec![snapshot("n1", &[("a", 1)], true), snapshot("n2", &[("b", 1)], false)],
    ];
    for first in bad {
        let shown = format!("{first:?}");
        let refused = report(&mut client, first).await.err().map(|status| status.code());
        assert_eq!(refused, Some(Code::InvalidArgument), "{shown}");
    }
}

#[actix::test]
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
        assert_eq!(newer_reflection(channel.clone()).await, grpc_reflection);
        assert_eq!(older_reflection(channel).await, grpc_reflection);
    }
}

/// Whether the service lists its services to a client of the current reflection.
async fn newer_reflection(channel: Channel) -> bool {
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest,
    };
    let message_request = Some(MessageRequest::ListServices(String::new()));
    let list = ServerReflectionRequest { host: String::new(), message_request };
    ServerReflectionClient::new(channel).server_reflection_info(tokio_stream::once(list)).await.is_ok()
}

/// The same for the older version of reflection.
async fn older_reflection(channel: Channel) -> bool {
    use tonic_reflection::pb::v1alpha::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest,
    };
    let message_request = Some(MessageRequest::ListServices(String::new()));
    let list = ServerReflectionRequest { host: String::new(), message_request };
    ServerReflectionClient::new(channel).server_reflection_info(tokio_stream::once(list)).await.is_ok()
}

#[actix::test]
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

#[actix::test]
async fn a_connection_over_the_limit_waits_until_another_ends() {
    let running = start(presence::Config { presence_connections: 1, ..quick() });
    let mut first = client(&running).await;
    first.user_connected(user("alice")).await.unwrap();
    let address = running.address;
    let second = tokio::spawn(async move {
        let mut client = Client::connect(format!("http://{address}")).await.unwrap();
        client.user_connected(user("bob")).await.unwrap().into_inner().usernames
    });
    assert_eq!(first.get_online_users(Empty {}).await.unwrap().into_inner().usernames, ["alice"]);
    drop(first);
    let online = timeout(Duration::from_secs(10), second).await.expect("its turn in time").unwrap();
    assert_eq!(online, ["alice", "bob"]);
}

/// Opens the stream of a node that uses `database`, and returns the id of the service.
async fn report_of_database(
    client: &mut Client,
    node: &str,
    database: &str,
    deployment: &str,
) -> Result<(String, Node), tonic::Status> {
    let (reports, received) = mpsc::channel(16);
    reports.send(snapshot(node, &[("bob", 1)], false)).await.unwrap();
    let mut request = tonic::Request::new(ReceiverStream::new(received));
    for (key, value) in [(proto::presence::DATABASE, database), (proto::presence::DEPLOYMENT, deployment)] {
        if !value.is_empty() {
            request.metadata_mut().insert(key, value.parse().unwrap());
        }
    }
    let response = client.report(request).await?;
    let id = response.metadata().get(proto::presence::SERVICE_ID).unwrap().to_str().unwrap().to_owned();
    Ok((id, Node { reports, updates: response.into_inner() }))
}

/// Two deployments with one name would see each other's users. Nodes with equal names would end each other's streams.
#[actix::test]
async fn nodes_of_another_database_are_refused_while_nodes_of_the_first_report() {
    let running = start(quick());
    let mut client = client(&running).await;
    let (id, first) = report_of_database(&mut client, "a", "one", "").await.unwrap();
    let (same, second) = report_of_database(&mut client, "b", "one", "").await.unwrap();
    let (_, older) = report_of_database(&mut client, "c", "", "").await.unwrap();
    assert_eq!(same, id, "one process has one id");
    for node in ["a", "d"] {
        let refused = report_of_database(&mut client, node, "two", "").await.map(drop).unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        assert!(refused.message().contains("--deployment"), "{refused}");
    }
    let (_, other) = report_of_database(&mut client, "a", "two", "staging").await.unwrap();
    // The nodes of the first database end.
    drop((first, second));
    let accepted = async {
        while report_of_database(&mut client, "a", "two", "").await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(20), accepted).await.expect("the streams have ended");
    drop((older, other));
    let another = start(quick());
    let mut client = self::client(&another).await;
    assert_ne!(report_of_database(&mut client, "a", "one", "").await.unwrap().0, id);
}
