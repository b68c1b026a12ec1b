//! Test users over a minimal HTTP client: registers missing ones and logs all in, each from its own loopback address, because the server
//! limits logins per address.

use std::{
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    time::Duration,
};

use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use crate::Error;

/// The number of concurrent logins. The server hashes a password for each.
const AT_ONCE: usize = 8;

/// The longest wait for one response. A server that hashes hundreds of passwords is slow.
pub const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);

/// A user that is logged in.
#[derive(Debug, Clone)]
pub struct User {
    /// The session token.
    pub token: String,
    /// The source address of the user's connections.
    pub source_address: Ipv4Addr,
}

/// The head of a response and the bytes after it.
pub struct Response {
    /// The status code.
    pub status: u16,
    head: String,
    /// Bytes after the head.
    pub rest: Vec<u8>,
}

impl Response {
    /// The value of a header. `name` is lower-case.
    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// The error for an unexpected status of request `what`.
    pub fn unexpected(&self, what: &str) -> Error {
        format!("{what}: the server answered {} {}", self.status, String::from_utf8_lossy(&self.rest)).into()
    }
}

/// Logs `count` users in.
pub async fn log_in(count: usize, server: SocketAddrV4) -> Result<Vec<User>, Error> {
    stream::iter(0..count).map(|n| user(n, server)).buffered(AT_ONCE).try_collect().await
}

async fn user(n: usize, server: SocketAddrV4) -> Result<User, Error> {
    // In 127.2.0.0/16.
    let [.., high, low] = (n + 1).to_be_bytes();
    let mut user = User { token: String::new(), source_address: Ipv4Addr::new(127, 2, high, low) };
    let name = format!("bench{n}");
    let credentials = json!({"username": name, "password": format!("{name} has a password")}).to_string();
    let mut answer = post("/user/login", &credentials, &user, server).await?;
    if answer.status == 401 {
        let registered = post("/user/register", &credentials, &user, server).await?;
        if registered.status != 201 {
            return Err(registered.unexpected("registering a user"));
        }
        answer = post("/user/login", &credentials, &user, server).await?;
    }
    let cookie = answer.header("set-cookie").and_then(|cookie| cookie.strip_prefix("auth_token="));
    let token = cookie.and_then(|cookie| cookie.split(';').next());
    user.token = token.ok_or_else(|| answer.unexpected("logging a user in"))?.to_owned();
    Ok(user)
}

/// Creates a room that belongs to `owner`.
pub async fn create_room(owner: &User, room: &str, server: SocketAddrV4) -> Result<(), Error> {
    let answer = post("/rooms", &json!({ "name": room }).to_string(), owner, server).await?;
    if answer.status == 201 { Ok(()) } else { Err(answer.unexpected("creating a room")) }
}

/// Posts JSON. Retries after the time in `Retry-After` if the server is overloaded.
async fn post(path: &str, body: &str, user: &User, to: SocketAddrV4) -> Result<Response, Error> {
    loop {
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: {to}\r\nContent-Type: application/json\r\nCookie: auth_token={}\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            user.token,
            body.len()
        );
        let (_, answer) = exchange(user, to, &request).await?;
        if !matches!(answer.status, 429 | 503) {
            return Ok(answer);
        }
        let seconds = answer.header("retry-after").and_then(|wait| wait.parse().ok()).unwrap_or(1);
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }
}

/// Connects from the user's address, sends a request, and reads the head of its response, with any bytes received after it.
pub async fn exchange(user: &User, to: SocketAddrV4, request: &str) -> Result<(TcpStream, Response), Error> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from((user.source_address, 0)))?;
    let exchange = async {
        let mut stream = socket.connect(to.into()).await.map_err(|error| format!("{to}: {error}"))?;
        stream.set_nodelay(true)?;
        stream.write_all(request.as_bytes()).await?;
        let answer = read_head(&mut stream).await?;
        Ok((stream, answer))
    };
    timeout(RESPONSE_TIMEOUT, exchange).await.map_err(|_| "no response in time")?
}

async fn read_head(stream: &mut TcpStream) -> Result<Response, Error> {
    let mut bytes = Vec::with_capacity(1024);
    loop {
        let n = stream.read_buf(&mut bytes).await?;
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
            return Ok(Response { status, head, rest: bytes.split_off(end + 4) });
        }
        if n == 0 {
            return Err("the server closed a connection instead of responding".into());
        }
    }
}
