//! A person as the HTTP side sees one: registers, logs in, asks for things, opens sockets. Made by `Stage`, calls `http`
//! and `socket`.

use std::net::{Ipv4Addr, SocketAddr};

use serde_json::{Value, json};

use super::{ConnectFailure, Handshake, Request, Response, Socket};

/// Somebody with a name, a password, an address and perhaps a session.
#[derive(Clone)]
pub struct TestUser {
    /// The name.
    pub name: String,
    /// The password, the person's own.
    pub password: String,
    /// The session token after a login.
    pub token: Option<String>,
    /// Where requests come from.
    pub source: Ipv4Addr,
    /// Where requests go.
    pub server: SocketAddr,
}

impl TestUser {
    /// A person who has not registered yet.
    pub fn new(name: &str, source: Ipv4Addr, server: SocketAddr) -> Self {
        let password = format!("{name}-keeps-this-secret");
        Self { name: name.into(), password, token: None, source, server }
    }

    /// What the person types into either form.
    pub fn credentials(&self) -> Value {
        json!({"username": self.name, "password": self.password})
    }

    /// Registers; the name must be free.
    pub async fn register(&self) {
        self.send(Request::post("/user/register", &self.credentials())).await.expect(201);
    }

    /// Logs in and keeps the session.
    pub async fn log_in(&mut self) {
        let answer = self.send(Request::post("/user/login", &self.credentials())).await.expect(200);
        self.token = Some(answer.token().unwrap_or_else(|| panic!("no session in {answer:?}")));
    }

    /// Logs out; the token stays in the person's hands, worthless.
    pub async fn log_out(&self) {
        self.request(Request::post("/user/logout", &json!({}))).await.expect(200);
    }

    /// Sends a request without a session.
    pub async fn send(&self, request: Request) -> Response {
        request.send(self.source, self.server).await
    }

    /// Sends a request with the session's cookie.
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

    /// Creates a room; `private` ones are entered by invitation.
    pub async fn create_room(&self, name: &str, private: bool) {
        self.post("/rooms", &json!({"name": name, "private": private})).await.expect(201);
    }

    /// Makes somebody a member of a room.
    pub async fn add_member(&self, who: &str, room: &str) -> Response {
        self.request(Request::new("PUT", &format!("/rooms/{room}/members/{who}"))).await
    }

    /// Takes somebody out of a room.
    pub async fn remove_member(&self, who: &str, room: &str) -> Response {
        self.request(Request::new("DELETE", &format!("/rooms/{room}/members/{who}"))).await
    }

    /// A room's whole history, oldest first, read page by page.
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

    /// Opens a socket and waits for the welcome.
    pub async fn connect(&self) -> Socket {
        let mut socket =
            self.try_connect(self.handshake()).await.unwrap_or_else(|why| panic!("{}: {why:?}", self.name));
        let welcome = socket.next("welcome").await;
        assert_eq!(welcome["username"], self.name.as_str(), "{welcome}");
        socket
    }

    /// Tries to open a socket in some other way.
    pub async fn try_connect(&self, handshake: Handshake) -> Result<Socket, ConnectFailure> {
        Socket::open(&self.name, self.source, self.server, handshake).await
    }

    /// The handshake of this person's browser.
    pub fn handshake(&self) -> Handshake {
        Handshake::default().cookie(self.token())
    }

    /// The session token.
    #[track_caller]
    pub fn token(&self) -> &str {
        self.token.as_deref().unwrap_or_else(|| panic!("{} has not logged in", self.name))
    }
}
