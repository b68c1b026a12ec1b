//! Test users: registers missing ones and logs all in, each from its own loopback address, because the server
//! limits logins per address.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::json;

use crate::{
    error::Error,
    http::{Response, connect, exchange},
};

/// The number of concurrent logins. The server hashes a password for each.
const AT_ONCE: usize = 8;

/// A user that is logged in.
#[derive(Debug, Clone)]
pub struct User {
    /// The session token.
    pub token: String,
    /// The source address of the user's connections.
    pub source_address: Ipv4Addr,
}

/// Logs `count` users in.
pub async fn log_in(count: usize, server: SocketAddrV4) -> Result<Vec<User>, Error> {
    stream::iter(0..count).map(|n| user(n, server)).buffered(AT_ONCE).try_collect().await
}

async fn user(n: usize, server: SocketAddrV4) -> Result<User, Error> {
    let source_address = source_address(n);
    let name = format!("bench{n}");
    let credentials = json!({"username": name, "password": format!("{name} has a password")}).to_string();
    let mut answer = post("/user/login", &credentials, source_address, None, server).await?;
    if answer.status == 401 {
        let registered = post("/user/register", &credentials, source_address, None, server).await?;
        if registered.status != 201 {
            return Err(registered.unexpected(format!("registering {name}")));
        }
        answer = post("/user/login", &credentials, source_address, None, server).await?;
    }
    match token(&answer) {
        Some(token) => Ok(User { token, source_address }),
        None => Err(answer.unexpected(format!("logging {name} in"))),
    }
}

fn token(answer: &Response) -> Option<String> {
    let cookie = answer.header("set-cookie")?.strip_prefix("auth_token=")?;
    cookie.split(';').next().map(str::to_owned)
}

/// Creates a room that belongs to `owner`.
pub async fn create_room(owner: &User, room: &str, server: SocketAddrV4) -> Result<(), Error> {
    let body = json!({ "name": room }).to_string();
    let answer = post("/rooms", &body, owner.source_address, Some(&owner.token), server).await?;
    if answer.status == 201 { Ok(()) } else { Err(answer.unexpected(format!("creating {room}"))) }
}

/// Posts JSON. Retries after the time in `Retry-After` if the server is overloaded.
async fn post(
    path: &str,
    body: &str,
    from: Ipv4Addr,
    token: Option<&str>,
    to: SocketAddrV4,
) -> Result<Response, Error> {
    let cookie = token.map(|token| format!("Cookie: auth_token={token}\r\n")).unwrap_or_default();
    loop {
        let mut stream = connect(from, to).await?;
        let length = body.len();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: {to}\r\nContent-Type: application/json\r\n{cookie}\
             Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
        let answer = exchange(&mut stream, &request).await?;
        if !matches!(answer.status, 429 | 503) {
            return Ok(answer);
        }
        let seconds = answer.header("retry-after").and_then(|wait| wait.parse().ok()).unwrap_or(1);
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }
}

/// The source address of a user, in 127.2.0.0/16.
fn source_address(n: usize) -> Ipv4Addr {
    let [.., high, low] = (n + 1).to_be_bytes();
    Ipv4Addr::new(127, 2, high, low)
}
