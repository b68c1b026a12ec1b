//! A user of the HTTP API: registers, logs in, sends requests, opens sockets. Made by `TestServer`; calls `http` and `socket`.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use serde_json::{Value, json};

use super::{ConnectFailure, Handshake, Request, Response, Socket};

/// The most attempts of a client that retries.
pub const MAX_REFUSALS: usize = 60;
/// The time between two attempts, as in `Retry-After`.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// A user name with a password, a source address and, after a login, a session.
#[derive(Clone)]
pub struct TestUser {
    /// The name.
    pub name: String,
    /// The password, different for every user.
    pub password: String,
    /// The session token after a login.
    pub token: Option<String>,
    /// The source address of requests.
    pub source: Ipv4Addr,
    /// The destination of requests.
    pub server: SocketAddr,
}

impl TestUser {
    /// A user that is not registered yet.
    pub fn new(name: &str, source: Ipv4Addr, server: SocketAddr) -> Self {
        let password = format!("{name}-keeps-this-secret");
        Self { name: name.into(), password, token: None, source, server }
    }

    /// The body of a registration and of a login.
    pub fn credentials(&self) -> Value {
        json!({"username": self.name, "password": self.password})
    }

    /// Registers; the name must be free.
    pub async fn register(&self) {
        self.send(Request::post("/user/register", &self.credentials())).await.expect(201);
    }

    /// Logs in and stores the session token.
    pub async fn log_in(&mut self) {
        let answer = self.send(Request::post("/user/login", &self.credentials())).await.expect(200);
        self.token = Some(answer.token().unwrap_or_else(|| panic!("no session in {answer:?}")));
    }

    /// Logs out; the revoked token stays in `token`.
    pub async fn log_out(&self) {
        self.request(Request::post("/user/logout", &json!({}))).await.expect(200);
    }

    /// Sends a request without a session cookie.
    pub async fn send(&self, request: Request) -> Response {
        request.send(self.source, self.server).await
    }

    /// Sends a request with the session cookie.
    pub async fn request(&self, request: Request) -> Response {
        self.send(request.cookie(self.token())).await
    }

    /// `GET target` with the session.
    pub async fn get(&self, target: &str) -> Response {
        self.request(Request::get(target)).await
    }

    /// `POST target` with the session.
    pub async fn post(&self, target: &str, body: &Value) -> Response {
        self.request(Request::post(target, body)).await
    }

    /// Creates a room; a private room is joined by invitation only.
    pub async fn create_room(&self, name: &str, private: bool) {
        self.post("/rooms", &json!({"name": name, "private": private})).await.expect(201);
    }

    /// Adds a user to a room.
    pub async fn add_member(&self, member: &str, room: &str) -> Response {
        self.request(Request::new("PUT", &format!("/rooms/{room}/members/{member}"))).await
    }

    /// Removes a user from a room.
    pub async fn remove_member(&self, member: &str, room: &str) -> Response {
        self.request(Request::new("DELETE", &format!("/rooms/{room}/members/{member}"))).await
    }

    /// The whole history of a room, oldest message first, read page by page.
    pub async fn read_history(&self, room: &str) -> Vec<Value> {
        let mut messages = Vec::new();
        let mut before = String::new();
        loop {
            let page =
                self.get(&format!("/rooms/{room}/messages?limit=100{before}")).await.expect(200).json();
            messages.extend(page["messages"].as_array().expect("a page has messages").iter().cloned());
            match page["next"].as_u64() {
                Some(next) => before = format!("&before={next}"),
                None => break,
            }
        }
        messages.reverse();
        messages
    }

    /// Opens a socket and waits for `welcome`.
    pub async fn connect(&self) -> Socket {
        let mut socket =
            self.try_connect(self.handshake()).await.unwrap_or_else(|why| panic!("{}: {why:?}", self.name));
        let welcome = socket.next("welcome").await;
        assert_eq!(welcome["username"], self.name.as_str(), "{welcome}");
        socket
    }

    /// Opens a socket with another handshake.
    pub async fn try_connect(&self, handshake: Handshake) -> Result<Socket, ConnectFailure> {
        Socket::open(&self.name, self.source, self.server, handshake).await
    }

    /// As [`TestUser::try_connect`], but retries like a stock client while the server refuses the handshake with 503: a burst of handshakes
    /// may exceed what the session store of a slow machine answers in time.
    pub async fn connect_patiently(&self, handshake: Handshake) -> Result<Socket, ConnectFailure> {
        for _ in 0..MAX_REFUSALS {
            match self.try_connect(handshake.clone()).await {
                Err(ConnectFailure::Http(503, _)) => tokio::time::sleep(RETRY_DELAY).await,
                outcome => return outcome,
            }
        }
        panic!("{}: refused {MAX_REFUSALS} times", self.name);
    }

    /// Sends a request with the session cookie, and again while the server responds with 503 and `Retry-After`.
    pub async fn request_patiently(&self, request: Request) -> Response {
        for _ in 0..MAX_REFUSALS {
            let response = self.request(request.clone()).await;
            if response.status != 503 {
                return response;
            }
            tokio::time::sleep(response.retry_after()).await;
        }
        panic!("{}: {request:?} was refused {MAX_REFUSALS} times", self.name);
    }

    /// The handshake with this user's session cookie.
    pub fn handshake(&self) -> Handshake {
        Handshake::default().cookie(self.token())
    }

    /// The session token.
    #[track_caller]
    pub fn token(&self) -> &str {
        self.token.as_deref().unwrap_or_else(|| panic!("{} has not logged in", self.name))
    }
}
