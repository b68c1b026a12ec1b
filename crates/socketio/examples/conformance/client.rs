//! Profile `client`: the namespaces that the suite of socket.io-client expects, and `/conf` for checks of our own.

use std::{io, rc::Rc, time::Duration};

use actix_web::{
    App as HttpApp, HttpRequest, HttpServer,
    dev::{Server as HttpHandle, Service as _},
    rt::time::sleep,
};
use futures_util::future::LocalBoxFuture;
use serde_json::{Value, json};
use socketio::{
    App, Bus, CloseReason, Config, Connect, Cors, Entry, Event, Memory, Peer, Refusal, Reply, Server, Socket,
    on_connect,
};

use crate::{
    WORKERS,
    conf::Conf,
    handshake::{self, handshake},
    main_namespace::MainNamespace,
    say::{answer, say},
};

/// How long each handshake takes: some cases rely on the client's own timeout coming first.
const DELAY: Duration = Duration::from_millis(10);

/// How long, and for how many events, clients may come back.
const RECOVERY: Duration = Duration::from_secs(120);
const REMEMBERED: usize = 10_000;

/// Starts the server behind a delay of each handshake.
pub fn listen(host: &str, port: u16) -> io::Result<HttpHandle> {
    let bus = Bus::new();
    let app = Client { bus: bus.clone(), memory: Memory::new(REMEMBERED, RECOVERY), port };
    let config = Config {
        ping_interval: Duration::from_secs(2),
        ping_timeout: Duration::from_secs(20),
        cors: Cors::Reflect,
        ..Config::default()
    };
    let server = Server::new(bus, app, config);
    let server = HttpServer::new(move || {
        HttpApp::new()
            .wrap_fn(|request, service| {
                let is_handshake = handshake::query(request.request()).get("sid").is_none();
                let answer = service.call(request);
                async move {
                    if is_handshake {
                        sleep(DELAY).await;
                    }
                    answer.await
                }
            })
            .configure(|service| server.mount(service))
    });
    Ok(server
        .on_connect(on_connect)
        .h1_allow_half_closed(false)
        .workers(WORKERS)
        .tcp_nodelay(true)
        .bind((host, port))?
        .run())
}

struct Client {
    bus: Bus,
    memory: Memory,
    /// What `/conf` tells of this server.
    port: u16,
}

/// A client in whichever namespace.
pub struct Anyone(Box<dyn Peer>);

/// `/foo`: tells clients their id.
struct Foo(Socket);

/// `/abc`: tells clients their handshake.
struct Abc {
    socket: Socket,
    handshake: Value,
}

/// A namespace that only exists.
struct Silent;

impl App for Client {
    type Admission = Value;
    type Peer = Anyone;

    fn admit(&self, request: &HttpRequest) -> Result<Value, Refusal> {
        Ok(handshake(request))
    }

    fn connect(&self, connect: Connect<Value>) -> LocalBoxFuture<'static, Result<Entry<Anyone>, Refusal>> {
        let (memory, bus, port) = (self.memory.clone(), self.bus.clone(), self.port);
        Box::pin(decide(connect, memory, bus, port))
    }
}

async fn decide(
    connect: Connect<Value>,
    memory: Memory,
    bus: Bus,
    port: u16,
) -> Result<Entry<Anyone>, Refusal> {
    let handshake = with_auth(&connect.admission, &connect.auth);
    let peer: Box<dyn Peer> = match &*connect.namespace {
        "/" => return MainNamespace::enter(connect, handshake, memory, bus).await,
        "/conf" => Box::new(Conf::enter(connect.socket, handshake, bus, port)?),
        "/foo" => Box::new(Foo(connect.socket)),
        "/abc" => Box::new(Abc { socket: connect.socket, handshake }),
        "/timeout_socket" | "/valid" | "/asd" => Box::new(Silent),
        "/no" => return Err(Refusal::new("Auth failed (custom namespace)")),
        _ => return Err(Refusal::new("Invalid namespace")),
    };
    Ok(Entry::new(Anyone::new(peer)))
}

fn with_auth(handshake: &Rc<Value>, auth: &Value) -> Value {
    let mut handshake = Value::clone(handshake);
    handshake["auth"] = auth.clone();
    handshake
}

impl Anyone {
    /// Any peer.
    pub fn new(peer: Box<dyn Peer>) -> Self {
        Self(peer)
    }
}

impl Peer for Anyone {
    fn connected(&mut self) {
        self.0.connected();
    }

    fn event(&mut self, event: Event, reply: Option<Reply>) {
        self.0.event(event, reply);
    }

    fn closed(&mut self, reason: CloseReason) {
        self.0.closed(reason);
    }
}

impl Peer for Foo {
    fn event(&mut self, event: Event, reply: Option<Reply>) {
        if event.name == "getId" {
            answer(reply, &(self.0.id().as_str(),));
        }
    }

    fn closed(&mut self, _: CloseReason) {}
}

impl Peer for Abc {
    fn connected(&mut self) {
        say(&self.socket, "handshake", &json!([self.handshake]));
    }

    fn event(&mut self, _: Event, _: Option<Reply>) {}

    fn closed(&mut self, _: CloseReason) {}
}

impl Peer for Silent {
    fn event(&mut self, _: Event, _: Option<Reply>) {}

    fn closed(&mut self, _: CloseReason) {}
}
