//! Connection state recovery over real sockets, with one line of configuration, in every namespace.

#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::{net::SocketAddr, time::Duration};

use actix_web::{App, HttpServer};
use serde_json::{Value, json};
use socketio::{CloseReason, Config, Encoded, Io, Operation, Recovery, Refusal, Router, Server, Target};
use support::{Client, DEADLINE, Frame, upgrade_request};

const NAMESPACES: [&str; 3] = ["/", "/news", "/admin"];

/// A server of a router with recovery.
fn start() -> (SocketAddr, Io) {
    let io = Io::new();
    let router = Router::accept(|connect: socketio::Connect<()>| async move {
        match connect.auth.get("fail") {
            Some(_) => Err(Refusal::new("no")),
            None => Ok(()),
        }
    });
    let router = NAMESPACES.iter().fold(router, |router, namespace| {
        router
            .of(namespace)
            .on("join", |client, room: String, ack| {
                client.join(&room.into());
                ack.send(&());
            })
            .on("state", |client, (), ack| {
                let rooms = client.rooms().iter().map(ToString::to_string).collect::<Vec<_>>();
                ack.send(&(client.recovered(), client.id().as_str(), rooms));
            })
            .on_async("late", |client, (), ack| async move {
                ack.send(&());
                while client.is_in(&client.id().room()) {
                    tokio::task::yield_now().await;
                }
                client.emit_event("late", &());
            })
            .on("direct", |client, text: String, _| client.emit_event("direct", &(text,)))
            .on("leave", |client, (), _| client.disconnect(None))
    });
    let config = Config { recovery: Some(Recovery::in_memory()), ..Config::default() };
    let server = Server::new(io.clone(), router, config);
    let server = HttpServer::new(move || App::new().configure(|service| server.mount(service)))
        .workers(2)
        .on_connect(socketio::on_connect)
        .h1_allow_half_closed(false)
        .bind("127.0.0.1:0")
        .unwrap();
    let address = server.addrs()[0];
    actix_rt::spawn(server.run());
    (address, io)
}

/// A client as stock clients are: it keeps its private id, and the last string argument as offset.
struct Stock {
    client: Client,
    prefix: String,
    sid: String,
    pid: String,
    offset: Option<String>,
    ids: u64,
}

impl Stock {
    async fn connect(address: SocketAddr, namespace: &str, auth: &Value) -> Self {
        let mut client = Client::dial(address, None).await;
        client.request(&upgrade_request("EIO=4&transport=websocket")).await;
        assert!(matches!(client.next().await, Frame::Text(open) if open.starts_with('0')));
        let prefix = if namespace == "/" { String::new() } else { format!("{namespace},") };
        client.send_text(&format!("40{prefix}{auth}")).await;
        let Frame::Text(answer) = client.next().await else { panic!("an answer") };
        let answer: Value =
            serde_json::from_str(answer.strip_prefix(&format!("40{prefix}")).unwrap()).unwrap();
        let text = |name: &str| answer[name].as_str().unwrap().to_owned();
        Self { client, sid: text("sid"), pid: text("pid"), prefix, offset: None, ids: 0 }
    }

    async fn reconnect(self, address: SocketAddr, namespace: &str) -> Self {
        let auth = json!({"pid": self.pid, "offset": self.offset});
        drop(self.client);
        Self { offset: self.offset, ..Self::connect(address, namespace, &auth).await }
    }

    /// Sends an event and returns its ack.
    async fn ask(&mut self, name: &str, args: &Value) -> Value {
        self.ids += 1;
        let mut event = vec![json!(name)];
        event.extend(args.as_array().unwrap().iter().cloned());
        self.client.send_text(&format!("42{}{}{}", self.prefix, self.ids, json!(event))).await;
        let Frame::Text(ack) = self.client.next().await else { panic!("an ack") };
        let args = ack.strip_prefix(&format!("43{}{}", self.prefix, self.ids)).expect(&ack);
        serde_json::from_str(args).unwrap()
    }

    /// The next event without its offset.
    async fn event(&mut self) -> Value {
        let Frame::Text(event) = self.client.next().await else { panic!("an event") };
        let mut args: Vec<Value> =
            serde_json::from_str(event.strip_prefix(&format!("42{}", self.prefix)).expect(&event)).unwrap();
        self.offset = Some(args.pop().unwrap().as_str().unwrap().to_owned());
        json!(args)
    }
}

async fn publish(io: &Io, namespace: &str, room: &str, number: u64) {
    let packet = Encoded::event(namespace, "news", &(number,), None).unwrap();
    let to = Target::room(namespace, room.into());
    io.send(vec![Operation::Send { to, packet, volatile: false }]).await;
}

/// Resolves when no socket has the id `sid`.
async fn gone(io: &Io, namespace: &str, sid: &str) {
    let gone = async {
        while !io.fetch(Target::room(namespace, sid.into())).await.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, gone).await.unwrap();
}

#[actix_rt::test]
async fn a_client_recovers_its_id_its_rooms_and_the_missed_events_in_every_namespace() {
    let (address, io) = start();
    for namespace in NAMESPACES {
        for is_noticed in [true, false] {
            let mut client = Stock::connect(address, namespace, &json!({})).await;
            assert_eq!(client.ask("join", &json!(["r"])).await, json!([]));
            assert_eq!(client.ask("late", &json!([])).await, json!([]));
            publish(&io, namespace, "r", 1).await;
            assert_eq!(client.event().await, json!(["news", 1]));
            let (sid, pid) = (client.sid.clone(), client.pid.clone());
            if is_noticed {
                let auth = json!({"pid": client.pid, "offset": client.offset});
                client.client.send_text("1").await;
                gone(&io, namespace, &sid).await;
                publish(&io, namespace, "r", 2).await;
                publish(&io, namespace, &sid, 3).await;
                publish(&io, namespace, "other", 4).await;
                client = Stock { offset: client.offset, ..Stock::connect(address, namespace, &auth).await };
                let mut missed = [client.event().await, client.event().await, client.event().await];
                missed.sort_by_key(ToString::to_string);
                assert_eq!(missed, [json!(["late"]), json!(["news", 2]), json!(["news", 3])]);
            } else {
                // The server has not noticed that the connection is lost: it is still open.
                let auth = json!({"pid": client.pid, "offset": client.offset});
                let before = client;
                client = Stock::connect(address, namespace, &auth).await;
                assert_eq!(client.event().await, json!(["late"]));
                drop(before);
            }
            assert_eq!((&client.sid, &client.pid), (&sid, &pid));
            let mut rooms = ["r".to_owned(), sid.clone()];
            rooms.sort();
            assert_eq!(client.ask("state", &json!([])).await, json!([true, sid, rooms]));
            publish(&io, namespace, "r", 5).await;
            assert_eq!(client.event().await, json!(["news", 5]), "once, and live again");
        }
    }
}

#[actix_rt::test]
async fn events_to_one_socket_and_broadcasts_are_recovered_in_one_order() {
    let (address, io) = start();
    let mut client = Stock::connect(address, "/", &json!({})).await;
    for round in 0..20 {
        client.client.send_text(&format!("42[\"direct\",\"{round}\"]")).await;
        assert_eq!(client.event().await, json!(["direct", round.to_string()]));
        publish(&io, "/", &client.sid, round).await;
        let (sid, offset) = (client.sid.clone(), client.offset.clone());
        assert_eq!(client.event().await, json!(["news", round]));
        if round % 2 == 0 {
            // The client has not processed the last event.
            client.offset = offset;
        }
        client = client.reconnect(address, "/").await;
        assert_eq!(client.sid, sid);
        if round % 2 == 0 {
            assert_eq!(client.event().await, json!(["news", round]));
        }
    }
}

#[actix_rt::test]
async fn a_client_that_leaves_or_is_refused() {
    let (address, io) = start();
    let mut client = Stock::connect(address, "/", &json!({})).await;
    client.client.send_text("1").await;
    gone(&io, "/", &client.sid).await;
    // A refused attempt does not use the session up.
    let mut refused = Client::dial(address, None).await;
    refused.request(&upgrade_request("EIO=4&transport=websocket")).await;
    refused.next().await;
    refused.send_text(&format!("40{}", json!({"pid": client.pid, "fail": true}))).await;
    assert_eq!(refused.next().await, Frame::Text("44{\"message\":\"no\"}".into()));
    let sid = client.sid.clone();
    client = client.reconnect(address, "/").await;
    assert_eq!(client.sid, sid);
    // A client that leaves on purpose, or is disconnected, starts a new session.
    for last in ["41", "42[\"leave\"]"] {
        client.client.send_text(last).await;
        gone(&io, "/", &client.sid).await;
        let sid = client.sid.clone();
        client = client.reconnect(address, "/").await;
        assert_ne!(client.sid, sid);
    }
}

#[actix_rt::test]
async fn a_worker_that_closes_its_connections_loses_no_event() {
    let (address, io) = start();
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut client = Stock::connect(address, "/", &json!({})).await;
        client.ask("join", &json!(["r"])).await;
        clients.push(client);
    }
    // Events are sent while the clients reconnect to any worker.
    let sender = io.clone();
    let sending = actix_rt::spawn(async move {
        for number in 0..500 {
            publish(&sender, "/", "r", number).await;
        }
    });
    let tasks = clients.into_iter().enumerate().map(|(index, mut client)| async move {
        let mut number = 0;
        while number < 500 {
            assert_eq!(client.event().await, json!(["news", number]), "client {index}");
            number += 1;
            if number % (7 + index as u64) == 0 {
                client = client.reconnect(address, "/").await;
            }
        }
    });
    tokio::time::timeout(DEADLINE, futures_util::future::join_all(tasks)).await.unwrap();
    sending.await.unwrap();
    io.close_all(CloseReason::ShuttingDown, 1, Duration::ZERO).await;
}
