//! A person as the HTTP side sees one: registers, logs in, asks for things, opens sockets. Made by `Stage`, calls `http`
//! and `socket`.

use std::net::{Ipv4Addr, SocketAddr};

use serde_json::{Value, json};

use super::{Handshake, NotLetIn, Request, Response, Socket};

/// Somebody with a name, a password, an address and perhaps a session.
#[derive(Clone)]
pub struct Person {
    /// The name.
    pub name: String,
    /// The password, the person's own.
    pub password: String,
    /// The session token after a login.
    pub token: Option<String>,
    /// Where requests come from.
    pub home: Ipv4Addr,
    /// Where requests go.
    pub server: SocketAddr,
}

impl Person {
    /// A person who has not registered yet.
    pub fn new(name: &str, home: Ipv4Addr, server: SocketAddr) -> Self {
        let password = format!("{name}-keeps-this-secret");
        Self { name: name.into(), password, token: None, home, server }
    }

    /// What the person types into either form.
    pub fn credentials(&self) -> Value {
        json!({"username": self.name, "password": self.password})
    }

    /// Registers; the name must be free.
    pub async fn registers(&self) {
        self.sends(Request::post("/user/register", &self.credentials())).await.expect(201);
    }

    /// Logs in and keeps the session.
    pub async fn logs_in(&mut self) {
        let answer = self.sends(Request::post("/user/login", &self.credentials())).await.expect(200);
        self.token = Some(answer.token().unwrap_or_else(|| panic!("no session in {answer:?}")));
    }

    /// Logs out; the token stays in the person's hands, worthless.
    pub async fn logs_out(&self) {
        self.asks(Request::post("/user/logout", &json!({}))).await.expect(200);
    }

    /// Sends a request without a session.
    pub async fn sends(&self, request: Request) -> Response {
        request.send(self.home, self.server).await
    }

    /// Sends a request with the session's cookie.
    pub async fn asks(&self, request: Request) -> Response {
        self.sends(request.cookie(self.token())).await
    }

    /// `GET target` with the session.
    pub async fn gets(&self, target: &str) -> Response {
        self.asks(Request::get(target)).await
    }

    /// `POST target` with the session.
    pub async fn posts(&self, target: &str, body: &Value) -> Response {
        self.asks(Request::post(target, body)).await
    }

    /// Creates a room; `private` ones are entered by invitation.
    pub async fn creates_room(&self, name: &str, private: bool) {
        self.posts("/rooms", &json!({"name": name, "private": private})).await.expect(201);
    }

    /// Makes somebody a member of a room.
    pub async fn adds(&self, who: &str, room: &str) -> Response {
        self.asks(Request::new("PUT", &format!("/rooms/{room}/members/{who}"))).await
    }

    /// Takes somebody out of a room.
    pub async fn removes(&self, who: &str, room: &str) -> Response {
        self.asks(Request::new("DELETE", &format!("/rooms/{room}/members/{who}"))).await
    }

    /// A room's whole history, oldest first, read page by page.
    pub async fn reads_all(&self, room: &str) -> Vec<Value> {
        let mut messages = Vec::new();
        let mut before = String::new();
        loop {
            let page =
                self.gets(&format!("/rooms/{room}/messages?limit=100{before}")).await.expect(200).json();
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
    pub async fn connects(&self) -> Socket {
        let mut socket =
            self.tries(self.handshake()).await.unwrap_or_else(|why| panic!("{}: {why:?}", self.name));
        let welcome = socket.next("welcome").await;
        assert_eq!(welcome["username"], self.name.as_str(), "{welcome}");
        socket
    }

    /// Tries to open a socket in some other way.
    pub async fn tries(&self, handshake: Handshake) -> Result<Socket, NotLetIn> {
        Socket::open(&self.name, self.home, self.server, handshake).await
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
