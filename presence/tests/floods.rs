//! Tests of floods on raw HTTP/2 connections: the server closes the connection and continues to serve other clients. A busy chat node
//! is not affected.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{net::SocketAddr, time::Duration};

use proto::presence::{
    Connections, Empty, NodeReport, Snapshot, node_report::Report,
    presence_service_client::PresenceServiceClient,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Timeout of every step.
const DEADLINE: Duration = Duration::from_secs(60);

/// Starts a service that stops with the test.
fn start(config: presence::Config) -> (SocketAddr, oneshot::Sender<()>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    drop(presence::start(listener, config, async {
        let _ = stopped.await;
    }));
    (address, stop)
}

async fn client(address: SocketAddr) -> PresenceServiceClient<Channel> {
    PresenceServiceClient::connect(format!("http://{address}")).await.unwrap()
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, high, middle, low] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[high, middle, low, kind, flags][..], &stream.to_be_bytes(), payload].concat()
}

/// The headers of a call, in HPACK without indexing.
fn call(stream: u32, flags: u8) -> Vec<u8> {
    let text = |text: &[u8]| [&[u8::try_from(text.len()).unwrap()][..], text].concat();
    let block = [
        &[0x83, 0x86, 0x04][..],
        &text(b"/presence.PresenceService/GetOnlineUsers"),
        &[0x01],
        &text(b"localhost"),
        &[0x0f, 0x10],
        &text(b"application/grpc"),
        &[0x00],
        &text(b"te"),
        &text(b"trailers"),
    ];
    frame(1, flags, stream, &block.concat())
}

/// Bytes that a flood sends after the preface: first `first`, then `each` repeatedly.
struct Flood {
    name: &'static str,
    first: Vec<u8>,
    each: fn(u32) -> Vec<u8>,
}

const END_HEADERS: u8 = 4;

fn floods() -> Vec<Flood> {
    let flood = |name, each| Flood { name, first: Vec::new(), each };
    vec![
        flood("empty SETTINGS", |_| frame(4, 0, 0, &[])),
        flood("SETTINGS", |n| frame(4, 0, 0, &[0, 4, 0, 0, 0xff, (n % 200) as u8])),
        flood("PING", |n| frame(6, 0, 0, &u64::from(n).to_be_bytes())),
        flood("answers to no PING", |_| frame(6, 1, 0, &[0; 8])),
        flood("PRIORITY", |n| frame(2, 0, 2 * (n % 100) + 1, &[0, 0, 0, 0, 9])),
        flood("WINDOW_UPDATE", |_| frame(8, 0, 0, &[0, 0, 0, 1])),
        flood("an unknown type", |_| frame(0xbe, 0, 0, b"grease")),
        flood("an empty unknown type", |n| frame(0xf0, 0xff, n, &[])),
        Flood { name: "empty DATA", first: call(1, END_HEADERS), each: |_| frame(0, 0, 1, &[]) },
        Flood { name: "CONTINUATION", first: call(1, 0), each: |_| frame(9, 0, 1, &[]) },
        flood("calls that are reset", |n| {
            let stream = 2 * n + 1;
            [call(stream, END_HEADERS), frame(3, 0, stream, &[0, 0, 0, 8])].concat()
        }),
    ]
}

/// Sends a flood until the server closes the connection.
async fn until_closed(address: SocketAddr, flood: &Flood) {
    let (mut reads, mut writes) = TcpStream::connect(address).await.unwrap().into_split();
    let ended = tokio::spawn(async move {
        let mut answers = vec![0; 64 * 1024];
        while reads.read(&mut answers).await.is_ok_and(|bytes| bytes > 0) {}
    });
    writes.write_all(&[PREFACE, &frame(4, 0, 0, &[]), &flood.first].concat()).await.unwrap();
    for round in 0.. {
        let frames: Vec<u8> = (0..100).flat_map(|n| (flood.each)(round * 100 + n)).collect();
        if ended.is_finished() || writes.write_all(&frames).await.is_err() {
            break;
        }
    }
    ended.await.unwrap();
}

#[actix::test]
async fn every_flood_is_closed_and_other_clients_are_served() {
    let (address, _stop) = start(presence::Config::default());
    let mut other = client(address).await;
    for flood in floods() {
        let name = flood.name;
        let (is_closed, mut closed) = oneshot::channel();
        let flooding = async {
            timeout(DEADLINE, until_closed(address, &flood))
                .await
                .unwrap_or_else(|_| panic!("{name} is never closed"));
            let _ = is_closed.send(());
        };
        let asking = async {
            loop {
                let answer = timeout(DEADLINE, other.get_online_users(Empty {})).await;
                answer.unwrap_or_else(|_| panic!("no answer beside {name}")).unwrap();
                if closed.try_recv().is_ok() {
                    return;
                }
            }
        };
        futures_util::join!(flooding, asking);
    }
}

/// Users of the node connect and disconnect faster than a gateway allows; all changes go through one stream.
#[actix::test]
async fn a_busy_node_is_not_closed() {
    let (address, _stop) = start(presence::Config::default());
    let mut client = client(address).await;
    let (reports, received) = mpsc::channel(16);
    let users = vec![Connections { username: "first".into(), count: 1 }];
    let snapshot = Snapshot { node: "n1".into(), users, more: false };
    reports.send(NodeReport { report: Some(Report::Snapshot(snapshot)) }).await.unwrap();
    let mut updates = client.report(ReceiverStream::new(received)).await.unwrap().into_inner();
    let drained = tokio::spawn(async move { while let Ok(Some(_)) = updates.message().await {} });
    for n in 0..10_000 {
        let change = Connections { username: format!("u{}", n % 1000), count: u32::from(n < 9_500) };
        reports.send(NodeReport { report: Some(Report::Change(change)) }).await.expect("the stream is open");
    }
    let online = timeout(DEADLINE, async {
        loop {
            let online = client.get_online_users(Empty {}).await.unwrap().into_inner().usernames;
            if online.len() == 501 {
                return online;
            }
        }
    });
    online.await.expect("all changes are applied");
    assert!(!drained.is_finished(), "the stream was closed");
}

/// Connections that send nothing or no complete frame do not occupy the limit of connections.
#[actix::test]
async fn a_connection_without_a_first_frame_is_closed() {
    let half = [PREFACE, &[0, 0, 0, 4]].concat();
    let silences = [&b""[..], b"PRI * HTTP", PREFACE, &half].map(|bytes| async move {
        let (address, _stop) = start(presence::Config { presence_connections: 1, ..Default::default() });
        let mut silent = TcpStream::connect(address).await.unwrap();
        silent.write_all(bytes).await.unwrap();
        let answered = timeout(DEADLINE, async {
            let mut client = client(address).await;
            client.get_online_users(Empty {}).await
        });
        answered.await.unwrap_or_else(|_| panic!("{bytes:?} keeps other clients out")).unwrap();
    });
    futures_util::future::join_all(silences).await;
}
