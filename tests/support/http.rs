//! A raw HTTP/1.1 client: the test writes every header, and the response is kept unchanged. Used by `TestUser` and by tests that send forged
//! requests; uses only a TCP socket.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

use super::with_timeout;

/// A request, sent as it is.
#[derive(Debug, Clone)]
pub struct Request {
    /// Method and target.
    line: (String, String),
    /// In order, duplicates allowed.
    headers: Vec<(String, String)>,
    /// The bytes after the head.
    body: Vec<u8>,
}

/// A response, unchanged.
#[derive(Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Names in lower case, in order.
    pub headers: Vec<(String, String)>,
    /// The body as text.
    pub body: String,
}

impl Request {
    /// A request without headers and body.
    pub fn new(method: &str, target: &str) -> Self {
        Self { line: (method.into(), target.into()), headers: Vec::new(), body: Vec::new() }
    }

    /// `GET target`.
    pub fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    /// `POST target` with a JSON body.
    pub fn post(target: &str, body: &Value) -> Self {
        Self::new("POST", target).json(body)
    }

    /// Adds one header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Adds the cookie that a browser sends after a login.
    pub fn cookie(self, token: &str) -> Self {
        self.header("Cookie", &format!("auth_token={token}"))
    }

    /// Sets a JSON body and its type.
    pub fn json(self, body: &Value) -> Self {
        self.body("application/json", body.to_string())
    }

    /// Sets a body of any type.
    pub fn body(mut self, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self.header("Content-Type", content_type)
    }

    /// The bytes of the request; `Host`, `Content-Length` and `Connection` are added unless the test has set them.
    fn into_bytes(self, to: SocketAddr) -> Vec<u8> {
        let (method, target) = self.line;
        let mut head = format!("{method} {target} HTTP/1.1\r\n");
        let mut headers = self.headers;
        let has = |headers: &[(String, String)], name: &str| {
            headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name))
        };
        if !has(&headers, "host") {
            headers.push(("Host".into(), to.to_string()));
        }
        let is_framed = has(&headers, "content-length") || has(&headers, "transfer-encoding");
        if !is_framed && (!self.body.is_empty() || method != "GET") {
            headers.push(("Content-Length".into(), self.body.len().to_string()));
        }
        if !has(&headers, "connection") {
            headers.push(("Connection".into(), "close".into()));
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        [head.into_bytes(), self.body].concat()
    }

    /// Sends the request from one address to another and reads the whole response.
    pub async fn send(self, from: Ipv4Addr, to: SocketAddr) -> Response {
        let (what, stream) = (self.line.clone(), connect(from, to).await);
        self.over(stream, to).await.unwrap_or_else(|| panic!("no complete response to {what:?}"))
    }

    /// As [`Request::send`]; `None` when the connection is refused or ends without a response.
    pub async fn try_send(self, from: Ipv4Addr, to: SocketAddr) -> Option<Response> {
        let stream = try_connect(from, to).await.ok()?;
        self.over(stream, to).await
    }

    /// As [`Request::try_send`]; the outer `None` when the connection is refused, the inner one when it ends without a response.
    pub async fn send_unless_refused(self, from: Ipv4Addr, to: SocketAddr) -> Option<Option<Response>> {
        let stream = try_connect(from, to).await.ok()?;
        Some(self.over(stream, to).await)
    }

    async fn over(self, mut stream: TcpStream, to: SocketAddr) -> Option<Response> {
        let what = format!("a response to {} {}", self.line.0, self.line.1);
        with_timeout(&what, async move {
            // A server may respond and close before it has read a body that it refuses; that is not an error.
            let _ = stream.write_all(&self.into_bytes(to)).await;
            read_response(&mut stream).await
        })
        .await
    }
}

impl Response {
    /// Removes a complete response with a `Content-Length` from the start of `bytes`.
    pub fn take(bytes: &mut Vec<u8>) -> Option<Self> {
        let head_end = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        let mut response = complete(&bytes[..head_end], true)?;
        let length = response.header("content-length").and_then(|length| length.parse::<usize>().ok());
        let length = length.unwrap_or_else(|| panic!("{response:?} has no length"));
        response.body = String::from_utf8(bytes.get(head_end..head_end + length)?.to_vec()).expect("text");
        bytes.drain(..head_end + length);
        Some(response)
    }

    /// The first header of that name (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// The time after which a refused request may be sent again.
    #[track_caller]
    pub fn retry_after(&self) -> Duration {
        let seconds = self.header("retry-after").and_then(|seconds| seconds.parse().ok());
        Duration::from_secs(seconds.unwrap_or_else(|| panic!("no time to retry in {self:?}")))
    }

    /// The session token that this response sets.
    pub fn token(&self) -> Option<String> {
        let cookies = self.headers.iter().filter(|(name, _)| name == "set-cookie");
        let mut values = cookies.filter_map(|(_, cookie)| cookie.strip_prefix("auth_token="));
        values.find_map(|rest| rest.split(';').next().map(str::to_owned)).filter(|token| !token.is_empty())
    }

    /// Requires a status; the panic shows the whole response.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// Requires a refusal with this status in the JSON shape of all refusals.
    #[track_caller]
    pub fn expect_refusal(self, status: u16) -> Self {
        let refused = self.expect(status);
        let json = refused.json();
        assert_eq!(
            (json["status"].as_str(), json["code"].as_u64()),
            (Some("error"), Some(status.into())),
            "{json}"
        );
        assert!(json["message"].as_str().is_some_and(|message| !message.is_empty()), "{json}");
        refused
    }
}

/// Connects over TCP from a given source address.
pub async fn connect(from: Ipv4Addr, to: SocketAddr) -> TcpStream {
    try_connect(from, to).await.unwrap_or_else(|error| panic!("connect to {to}: {error}"))
}

/// As [`connect`], with the error when nothing listens at `to`.
pub async fn try_connect(from: Ipv4Addr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::from((from, 0))).expect("Linux allows every address of 127.0.0.0/8");
    let stream = socket.connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Reads one response to its declared end, or to the end of the stream when it declares no end.
async fn read_response(stream: &mut TcpStream) -> Option<Response> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 16 * 1024];
    loop {
        if let Some(response) = complete(&bytes, false) {
            return Some(response);
        }
        match stream.read(&mut chunk).await {
            Ok(n) if n > 0 => bytes.extend_from_slice(&chunk[..n]),
            _ => return complete(&bytes, true),
        }
    }
}

/// The response at the start of `bytes`, when it is complete.
fn complete(bytes: &[u8], ended: bool) -> Option<Response> {
    let head_end = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let (head, body) = (lossy(&bytes[..head_end]), &bytes[head_end..]);
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut response = Response { status, headers, body: String::new() };
    if response.header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        response.body = lossy(&unchunked(body)?);
        return Some(response);
    }
    response.body = lossy(body);
    let length = response.header("content-length").and_then(|length| length.parse::<usize>().ok());
    let whole = length.is_some_and(|length| body.len() >= length);
    (ended || whole).then_some(response)
}

/// The body without its chunk headers, when the last chunk has arrived.
fn unchunked(mut body: &[u8]) -> Option<Vec<u8>> {
    let mut whole = Vec::new();
    loop {
        let line = body.windows(2).position(|window| window == b"\r\n")?;
        let length = usize::from_str_radix(std::str::from_utf8(&body[..line]).ok()?, 16).ok()?;
        whole.extend_from_slice(body.get(line + 2..line + 2 + length)?);
        body = body.get(line + 2 + length + 2..)?;
        if length == 0 {
            return Some(whole);
        }
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
