//! The router over real sockets: payloads, acks, namespaces, data of clients, bounds.

#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::{net::SocketAddr, sync::Arc};

use actix_web::{App, HttpServer};
use serde::Deserialize;
use socketio::{Ack, Config, Connect, Io, Refusal, Router, Server};
use support::{Client, DEADLINE, Frame, upgrade_request};
use tokio::sync::{Semaphore, mpsc};

#[derive(Deserialize)]
struct Message {
    text: String,
    #[serde(default)]
    copies: u8,
}

/// A server of a router, the permits of its handler `wait`, and the names of clients that have left.
fn start() -> (SocketAddr, Arc<Semaphore>, mpsc::UnboundedReceiver<String>) {
    let permits = Arc::new(Semaphore::new(0));
    let (left, leaving) = mpsc::unbounded_channel();
    let waiting = permits.clone();
    let accept = |connect: Connect<()>| async move {
        connect.auth["name"].as_str().map(str::to_owned).ok_or_else(|| Refusal::new("a name is required"))
    };
    let router = Router::accept(accept)
        .admit(|request| match request.query_string().contains("deny") {
            true => Err(Refusal::new("denied")),
            false => Ok(()),
        })
        .on_connect(|client| client.emit_event("hello", &(client.data(),)))
        .on("sum", |_, (a, b): (i64, i64), ack| ack.send(&(a + b,)))
        .on("message", |_, message: Message, ack| ack.send(&(message.text, message.copies)))
        .on("nothing", |client, (), ack| ack.send(&(client.data(),)))
        .on("twice", |_, (), ack| ack.send(&("replaced",)))
        .on("twice", |_, (), ack| ack.send(&("last",)))
        .on_async("wait", move |_, number: u64, ack| {
            let permits = waiting.clone();
            async move {
                let permit = permits.acquire().await;
                ack.send(&(number,));
                drop(permit);
            }
        })
        .on_disconnect(move |client, reason| {
            left.send(format!("{}: {}", client.data(), reason.as_str())).unwrap();
        })
        .of("/other")
        .on("sum", |_, numbers: Vec<i64>, ack| ack.send(&(numbers.iter().sum::<i64>() * 100,)))
        .fallback(|_, event, reply| Ack::from(reply).send(&("fallback", event.name, event.args)));
    let server = Server::new(Io::new(), router, Config::default());
    let server = HttpServer::new(move || App::new().configure(|service| server.mount(service)))
        .workers(1)
        .on_connect(socketio::on_connect)
        .h1_allow_half_closed(false)
        .bind("127.0.0.1:0")
        .unwrap();
    let address = server.addrs()[0];
    actix_rt::spawn(server.run());
    (address, permits, leaving)
}

async fn open(address: SocketAddr) -> Client {
    let mut client = Client::dial(address, None).await;
    client.request(&upgrade_request("EIO=4&transport=websocket")).await;
    client.next().await;
    client
}

async fn join(address: SocketAddr, namespace: &str) -> Client {
    let mut client = open(address).await;
    client.send_text(&format!("40{namespace}{{\"name\":\"alice\"}}")).await;
    assert!(
        matches!(client.next().await, Frame::Text(text) if text.starts_with(&format!("40{namespace}{{")))
    );
    if namespace.is_empty() {
        assert_eq!(client.next().await, Frame::Text("42[\"hello\",\"alice\"]".into()));
    }
    client
}

async fn ask(client: &mut Client, packet: &str, answer: &str) {
    client.send_text(packet).await;
    assert_eq!(client.next().await, Frame::Text(answer.into()), "{packet}");
}

#[actix_rt::test]
async fn handlers_receive_typed_payloads_and_errors_are_answered() {
    let (address, ..) = start();
    let mut client = join(address, "").await;
    ask(&mut client, r#"421["sum",1,2]"#, "431[3]").await;
    ask(&mut client, r#"422["message",{"text":"a"}]"#, r#"432["a",0]"#).await;
    ask(&mut client, r#"423["message",{"text":"a","copies":2}]"#, r#"433["a",2]"#).await;
    ask(&mut client, r#"424["nothing"]"#, r#"434["alice"]"#).await;
    ask(&mut client, r#"425["twice"]"#, r#"435["last"]"#).await;
    let error = |id, message| format!(r#"43{id}[{{"error":"invalid_payload","message":"{message}"}}]"#);
    for (packet, answer) in [
        (r#"421["sum",1,"2"]"#, error(1, r#"invalid type: string \"2\", expected i64"#)),
        (r#"422["sum",1,2,3]"#, error(2, "invalid length 3, expected fewer elements in array")),
        (r#"423["message",{}]"#, error(3, "missing field `text`")),
        (r#"424["sum",1e999,1]"#, error(4, "the arguments cannot be represented")),
    ] {
        ask(&mut client, packet, &answer).await;
    }
    // Without an ack and without a handler: ignored.
    for ignored in [r#"42["sum"]"#, r#"429["unknown"]"#, r#"42["unknown",1]"#, r#"429["unknown",1e999]"#] {
        client.send_text(ignored).await;
    }
    ask(&mut client, r#"420["sum",4,5]"#, "430[9]").await;
}

#[actix_rt::test]
async fn namespaces_have_handlers_of_their_own_and_others_do_not_exist() {
    let (address, _, mut leaving) = start();
    let mut client = join(address, "/other,").await;
    ask(&mut client, r#"42/other,1["sum",1,2]"#, "43/other,1[300]").await;
    ask(&mut client, r#"42/other,2["nothing",7]"#, r#"43/other,2["fallback","nothing",[7]]"#).await;
    ask(&mut client, "40/third,", r#"44/third,{"message":"Invalid namespace"}"#).await;
    ask(&mut client, "40", r#"44{"message":"a name is required"}"#).await;
    let mut client = join(address, "").await;
    client.send_text("41").await;
    let left = tokio::time::timeout(DEADLINE, leaving.recv()).await.unwrap().unwrap();
    assert_eq!(left, "alice: client namespace disconnect");
    let mut denied = Client::dial(address, None).await;
    let head = denied.request(&upgrade_request("EIO=4&transport=websocket&deny=1")).await;
    assert!(head.starts_with("HTTP/1.1 400"), "{head}");
}

#[actix_rt::test]
async fn asynchronous_handlers_of_one_client_are_bounded_and_do_not_block_others() {
    let (address, permits, _) = start();
    let mut client = join(address, "").await;
    for id in 0..64 {
        client.send_text(&format!("42{id}[\"wait\",{id}]")).await;
    }
    let busy = r#"4364[{"error":"busy","message":"too many events of this client are being handled"}]"#;
    ask(&mut client, r#"4264["wait",64]"#, busy).await;
    ask(&mut client, r#"4265["sum",1,1]"#, "4365[2]").await;
    permits.add_permits(1);
    for id in 0..64 {
        assert_eq!(client.next().await, Frame::Text(format!("43{id}[{id}]")));
    }
    ask(&mut client, r#"4266["wait",66]"#, "4366[66]").await;
}
