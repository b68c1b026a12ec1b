//! A minimal HTTP client: logs users in and opens WebSockets, from any loopback address.

use std::{
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use crate::error::{Context, Error};

/// The longest wait for one response. A server that hashes hundreds of passwords is slow.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);

/// The head of a response and the bytes after it.
pub struct Response {
    /// The status code.
    pub status: u16,
    /// All headers, as received.
    pub head: String,
    /// Bytes after the head.
    pub rest: Vec<u8>,
}

impl Response {
    /// The value of a header. `name` is lower-case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// The error for an unexpected status of request `what`.
    pub fn unexpected(self, what: impl Into<String>) -> Error {
        let body = String::from_utf8_lossy(&self.rest);
        Error::Response { what: what.into(), answer: format!("{} {body}", self.status) }
    }
}

/// Parses `http://ADDRESS:PORT`.
pub fn address(url: &str) -> Result<SocketAddrV4, Error> {
    let authority = url.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
    authority.and_then(|authority| authority.parse().ok()).ok_or_else(|| Error::Url(url.to_owned()))
}

/// A connection from a local address.
pub async fn connect(from: Ipv4Addr, to: SocketAddrV4) -> Result<TcpStream, Error> {
    connect_with_buffer(from, to, None).await
}

/// A connection with a receive buffer of about `receive_buffer` bytes.
pub async fn connect_with_buffer(
    from: Ipv4Addr,
    to: SocketAddrV4,
    receive_buffer: Option<u32>,
) -> Result<TcpStream, Error> {
    let socket = TcpSocket::new_v4().context("a socket")?;
    if let Some(receive_buffer) = receive_buffer {
        socket.set_recv_buffer_size(receive_buffer).context("a socket option")?;
    }
    socket.set_reuseaddr(true).context("a socket option")?;
    socket.bind(SocketAddr::from((from, 0))).context("binding to a loopback address")?;
    let stream = timeout(RESPONSE_TIMEOUT, socket.connect(to.into()))
        .await
        .map_err(|_| Error::Timeout("connecting"))?;
    let stream = stream.context("connecting")?;
    stream.set_nodelay(true).context("a socket option")?;
    Ok(stream)
}

/// Sends a request and reads the head of its response, with any bytes received after it.
pub async fn exchange(stream: &mut TcpStream, request: &str) -> Result<Response, Error> {
    stream.write_all(request.as_bytes()).await.context("sending a request")?;
    timeout(RESPONSE_TIMEOUT, read_head(stream)).await.map_err(|_| Error::Timeout("a request"))?
}

async fn read_head(stream: &mut TcpStream) -> Result<Response, Error> {
    let mut bytes = Vec::with_capacity(1024);
    loop {
        let n = stream.read_buf(&mut bytes).await.context("reading an answer")?;
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
            return Ok(Response { status, head, rest: bytes.split_off(end + 4) });
        }
        if n == 0 {
            let answer = String::from_utf8_lossy(&bytes).into_owned();
            return Err(Error::Response {
                what: "a request".into(),
                answer: format!("nothing but {answer:?}"),
            });
        }
    }
}
