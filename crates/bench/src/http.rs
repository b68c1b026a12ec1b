//! Just enough HTTP to log people in and to open WebSockets, from any address of the loopback network. Called by `people`
//! and `socket`.

use std::{
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use crate::error::{Error, Tried};

/// How long one answer may take; a server that hashes passwords for hundreds of people takes its time.
const PATIENCE: Duration = Duration::from_secs(60);

/// The head of an answer and what came after it.
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// All headers, as sent.
    pub head: String,
    /// Bytes after the head.
    pub rest: Vec<u8>,
}

impl Answer {
    /// The value of a header, by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// The error to report when the status is not what `what` needs.
    pub fn unexpected(self, what: impl Into<String>) -> Error {
        let body = String::from_utf8_lossy(&self.rest);
        Error::Answer { what: what.into(), answer: format!("{} {body}", self.status) }
    }
}

/// The address in `http://ADDRESS:PORT`.
pub fn address(url: &str) -> Result<SocketAddrV4, Error> {
    let authority = url.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
    authority.and_then(|authority| authority.parse().ok()).ok_or_else(|| Error::Url(url.to_owned()))
}

/// A connection from a chosen address.
pub async fn connect(from: Ipv4Addr, to: SocketAddrV4) -> Result<TcpStream, Error> {
    connect_holding(from, to, None).await
}

/// A connection for which the kernel holds `unread` bytes, about, when they are not read.
pub async fn connect_holding(
    from: Ipv4Addr,
    to: SocketAddrV4,
    unread: Option<u32>,
) -> Result<TcpStream, Error> {
    let socket = TcpSocket::new_v4().tried("a socket")?;
    if let Some(unread) = unread {
        socket.set_recv_buffer_size(unread).tried("a socket option")?;
    }
    socket.set_reuseaddr(true).tried("a socket option")?;
    socket.bind(SocketAddr::from((from, 0))).tried("binding to a loopback address")?;
    let stream = timeout(PATIENCE, socket.connect(to.into())).await.map_err(|_| Error::Late("connecting"))?;
    let stream = stream.tried("connecting")?;
    stream.set_nodelay(true).tried("a socket option")?;
    Ok(stream)
}

/// Writes a request and reads the head of its answer, with whatever arrived behind it.
pub async fn exchange(stream: &mut TcpStream, request: &str) -> Result<Answer, Error> {
    stream.write_all(request.as_bytes()).await.tried("sending a request")?;
    timeout(PATIENCE, read_head(stream)).await.map_err(|_| Error::Late("a request"))?
}

async fn read_head(stream: &mut TcpStream) -> Result<Answer, Error> {
    let mut bytes = Vec::with_capacity(1024);
    loop {
        let n = stream.read_buf(&mut bytes).await.tried("reading an answer")?;
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
            return Ok(Answer { status, head, rest: bytes.split_off(end + 4) });
        }
        if n == 0 {
            let answer = String::from_utf8_lossy(&bytes).into_owned();
            return Err(Error::Answer {
                what: "a request".into(),
                answer: format!("nothing but {answer:?}"),
            });
        }
    }
}
