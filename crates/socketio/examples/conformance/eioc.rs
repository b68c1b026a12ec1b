//! Profile `eioc`: Engine.IO alone, as the test suite of engine.io-client requires it.

use std::{
    io,
    time::{Duration, SystemTime},
};

use actix_web::{
    App, HttpRequest, HttpServer,
    dev::Server,
    http::header::{HeaderName, HeaderValue, SET_COOKIE},
};
use bytes::Bytes;
use socketio::{Config, EngineApp, EnginePeer, EngineServer, EngineSocket, Refusal, on_connect};

use crate::{WORKERS, handshake};

/// Starts the server.
pub fn listen(host: &str, port: u16) -> io::Result<Server> {
    let config = Config {
        path: "/engine.io/".to_owned(),
        ping_interval: Duration::from_millis(500),
        max_payload: 100,
        request_heads: true,
        ..Config::default()
    };
    let engine = EngineServer::new(EchoApp, config);
    let server = HttpServer::new(move || App::new().configure(|service| engine.mount(service)));
    Ok(server
        .on_connect(on_connect)
        .h1_allow_half_closed(false)
        .workers(WORKERS)
        .tcp_nodelay(true)
        .bind((host, port))?
        .run())
}

struct EchoApp;

struct Client(EngineSocket);

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
        Client(socket)
    }
}

impl EnginePeer for Client {
    fn text(&mut self, text: &str) {
        match text {
            "give binary" => self.0.send_binary(&[0, 1, 2, 3, 4]),
            "give utf8" => self.0.send_text("пойду спать всем спокойной ночи"),
            "sendHeaders" => {
                let headers = self.0.request().map(|request| handshake::headers(&request.headers));
                self.0.send_text(&headers.unwrap_or_default().to_string());
            }
            other => self.0.send_text(other),
        }
    }

    fn binary(&mut self, data: Bytes) {
        self.0.send_binary(&data);
    }
}
