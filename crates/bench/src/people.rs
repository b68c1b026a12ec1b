//! People to connect as: registers those the server does not know yet and logs everybody in, each from a loopback address
//! of their own, because logins are limited per address. Called by the scenarios.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::json;

use crate::{
    error::Error,
    http::{Answer, connect, exchange},
};

/// How many log in at once; the server hashes a password for each.
const AT_ONCE: usize = 8;

/// Somebody who is logged in.
#[derive(Debug, Clone)]
pub struct Person {
    /// The session token.
    pub token: String,
    /// Where this person's connections come from.
    pub home: Ipv4Addr,
}

/// Logs `count` people in.
pub async fn log_in(count: usize, server: SocketAddrV4) -> Result<Vec<Person>, Error> {
    stream::iter(0..count).map(|n| person(n, server)).buffered(AT_ONCE).try_collect().await
}

async fn person(n: usize, server: SocketAddrV4) -> Result<Person, Error> {
    let home = home(n);
    let name = format!("bench{n}");
    let credentials = json!({"username": name, "password": format!("{name} has a password")}).to_string();
    let mut answer = post("/user/login", &credentials, home, None, server).await?;
    if answer.status == 401 {
        let registered = post("/user/register", &credentials, home, None, server).await?;
        if registered.status != 201 {
            return Err(registered.unexpected(format!("registering {name}")));
        }
        answer = post("/user/login", &credentials, home, None, server).await?;
    }
    match token(&answer) {
        Some(token) => Ok(Person { token, home }),
        None => Err(answer.unexpected(format!("logging {name} in"))),
    }
}

fn token(answer: &Answer) -> Option<String> {
    let cookie = answer.header("set-cookie")?.strip_prefix("auth_token=")?;
    cookie.split(';').next().map(str::to_owned)
}

/// Creates a room that `owner` owns.
pub async fn create_room(owner: &Person, room: &str, server: SocketAddrV4) -> Result<(), Error> {
    let body = json!({ "name": room }).to_string();
    let answer = post("/rooms", &body, owner.home, Some(&owner.token), server).await?;
    if answer.status == 201 { Ok(()) } else { Err(answer.unexpected(format!("creating {room}"))) }
}

/// Posts JSON; a server that says "not now" is asked again after the time it names.
async fn post(
    path: &str,
    body: &str,
    from: Ipv4Addr,
    token: Option<&str>,
    to: SocketAddrV4,
) -> Result<Answer, Error> {
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

/// Every person's own address in 127.2.0.0/16.
fn home(n: usize) -> Ipv4Addr {
    let [.., high, low] = (n + 1).to_be_bytes();
    Ipv4Addr::new(127, 2, high, low)
}
