//! Profile `eioc`: Engine.IO alone, as the test suite of engine.io-client requires it.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use actix_web::{
    App, HttpRequest, HttpServer,
    dev::{Server, Service as _, ServiceRequest},
    http::{
        Method,
        header::{HeaderName, HeaderValue, SET_COOKIE},
    },
};
use bytes::Bytes;
use serde_json::Value;
use socketio::{Config, EngineApp, EnginePeer, EngineServer, EngineSocket, Refusal, on_connect};

use crate::{WORKERS, handshake};

/// The largest number of sessions whose headers are stored.
const MAX_STORED: usize = 1024;

/// Starts the server.
pub fn listen(host: &str, port: u16) -> io::Result<Server> {
    let posts = Posts::default();
    let config = Config {
        path: "/engine.io/".to_owned(),
        ping_interval: Duration::from_millis(500),
        max_payload: 100,
        ..Config::default()
    };
    let engine = EngineServer::new(EchoApp { posts: posts.clone() }, config);
    let server = HttpServer::new(move || {
        let posts = posts.clone();
        App::new()
            .wrap_fn(move |request, service| {
                posts.record(&request);
                service.call(request)
            })
            .configure(|service| engine.mount(service))
    });
    Ok(server
        .on_connect(on_connect)
        .h1_allow_half_closed(false)
        .workers(WORKERS)
        .tcp_nodelay(true)
        .bind((host, port))?
        .run())
}

/// The headers of each session's last POST, by session id.
#[derive(Clone, Default)]
struct Posts(Arc<Mutex<HashMap<String, Value>>>);

impl Posts {
    fn stored(&self) -> MutexGuard<'_, HashMap<String, Value>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, request: &ServiceRequest) {
        let query = handshake::query(request.request());
        let Some(sid) = query.get("sid").and_then(Value::as_str) else { return };
        if *request.method() != Method::POST {
            return;
        }
        let mut stored = self.stored();
        if stored.len() >= MAX_STORED {
            // Entries of requests that arrived after the end of their session.
            stored.clear();
        }
        stored.insert(sid.to_owned(), handshake::headers(request.request()));
    }
}

struct EchoApp {
    posts: Posts,
}

struct Client {
    socket: EngineSocket,
    posts: Posts,
}

impl EngineApp for EchoApp {
    type Admission = ();
    type Peer = Client;

    fn admit(&self, request: &HttpRequest) -> Result<(), Refusal> {
        match handshake::query(request).get("deny") {
            Some(_) => Err(Refusal::new("Forbidden")),
            None => Ok(()),
        }
    }

    fn headers(&self, _: &HttpRequest) -> Vec<(HeaderName, HeaderValue)> {
        let expired = format!("4=4; Expires={}", actix_web::http::header::HttpDate::from(SystemTime::now()));
        let cookies = [
            "1=1; Max-Age=86400",
            "2=2; Path=/; HttpOnly; Secure; SameSite=Strict",
            "3=3; Max-Age=0",
            expired.as_str(),
        ];
        cookies.iter().filter_map(|cookie| Some((SET_COOKIE, HeaderValue::from_str(cookie).ok()?))).collect()
    }

    fn open(&self, socket: EngineSocket, _: ()) -> Client {
        socket.send_text("hi");
        Client { socket, posts: self.posts.clone() }
    }
}

impl EnginePeer for Client {
    fn text(&mut self, text: &str) {
        match text {
            "give binary" => self.socket.send_binary(&[0, 1, 2, 3, 4]),
            "give utf8" => self.socket.send_text("пойду спать всем спокойной ночи"),
            "sendHeaders" => {
                let headers = self.posts.stored().get(self.socket.session_id()).cloned();
                self.socket.send_text(&headers.unwrap_or_default().to_string());
            }
            other => self.socket.send_text(other),
        }
    }

    fn binary(&mut self, data: Bytes) {
        self.socket.send_binary(&data);
    }

    fn closed(&mut self, _: socketio::CloseReason) {
        self.posts.stored().remove(self.socket.session_id());
    }
}
