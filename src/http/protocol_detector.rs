//! Detects clients that do not send HTTP/1 by the first bytes of their connection, because the HTTP library closes such
//! connections without a response. [`ProtocolDetector`] replaces the bytes by a request with a special method.
//! [`ForeignProtocol::of`] detects the method where the peer address is available and a response can be sent. Used by
//! the server, before all parsers of HTTP.

use std::{
    io,
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use actix_http::Request;
use actix_web::{HttpResponse, error::InternalError, http::StatusCode};
use proto::Refusal;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A protocol that is not HTTP/1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForeignProtocol {
    /// The PROXY protocol, version 1 or 2, before any other protocol.
    Proxy,
    /// TLS.
    Tls,
    /// HTTP/2 by prior knowledge.
    Http2,
    /// Any other bytes that do not start a request line.
    Other,
}

/// Beginning of version 2 of the PROXY protocol.
const PROXY_2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Beginnings of version 1 of the PROXY protocol.
const PROXY_1: [&[u8]; 3] = [b"PROXY TCP4 ", b"PROXY TCP6 ", b"PROXY UNKNOWN"];

/// Beginning of HTTP/2 by prior knowledge.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n";

/// The first bytes of a TLS handshake record.
const TLS: &[u8] = b"\x16\x03";

/// Minimum time between two warnings about one protocol. Clients can send these bytes at any rate.
const WARN_INTERVAL: Duration = Duration::from_secs(60);

/// Maximum number of bytes discarded in one read.
const DISCARD_BUFFER: usize = 4_096;

/// A connection whose first bytes are examined.
#[derive(Debug)]
pub struct ProtocolDetector<S> {
    io: S,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing was read.
    Start,
    /// Bytes pass unchanged.
    Http,
    /// The replacement request was passed on. All other bytes are discarded.
    Foreign,
}

impl ForeignProtocol {
    const ALL: [Self; 4] = [Self::Proxy, Self::Tls, Self::Http2, Self::Other];

    /// The protocol of a connection with these first bytes. `None` for HTTP/1, and for too few bytes to decide.
    fn detect(start: &[u8]) -> Option<Self> {
        if start.starts_with(PROXY_2) || PROXY_1.iter().any(|one| start.starts_with(one)) {
            return Some(Self::Proxy);
        }
        if start.starts_with(TLS) {
            return Some(Self::Tls);
        }
        if start.starts_with(PREFACE) {
            return Some(Self::Http2);
        }
        // Empty lines before a request are allowed (RFC 9112 §2.2).
        let blank = start.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let start = &start[blank..];
        let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
        let is_odd = start.first().is_some_and(|first| !is_token(first));
        let line = start.iter().position(|byte| *byte == b'\n').map(|end| start[..end].trim_ascii_end());
        let has_version = |line: &[u8]| {
            line.rsplit(|byte| *byte == b' ').next().is_some_and(|last| last.starts_with(b"HTTP/"))
        };
        (is_odd || line.is_some_and(|line| !has_version(line))).then_some(Self::Other)
    }

    /// The protocol of a request that replaced other bytes.
    pub fn of(request: &Request) -> Option<Self> {
        Self::ALL.into_iter().find(|foreign| request.method().as_str() == foreign.method())
    }

    /// The method of the replacement request.
    fn method(self) -> &'static str {
        match self {
            Self::Proxy => "FOREIGN-PROXY",
            Self::Tls => "FOREIGN-TLS",
            Self::Http2 => "FOREIGN-HTTP2",
            Self::Other => "FOREIGN-OTHER",
        }
    }

    /// The cause and the remedy.
    fn explanation(self) -> (&'static str, &'static str) {
        match self {
            Self::Proxy => (
                "this port accepts HTTP/1.1 and not the PROXY protocol",
                "disable the PROXY protocol at the load balancer, let it send X-Forwarded-For, and name its address with --trusted-proxy",
            ),
            Self::Tls => (
                "this port accepts HTTP/1.1 without TLS",
                "use http://, or put a proxy that terminates TLS in front",
            ),
            Self::Http2 => ("this server accepts HTTP/1.1, not HTTP/2", "let the proxy connect by HTTP/1.1"),
            Self::Other => (
                "this port accepts HTTP/1.1, and the received bytes are not HTTP",
                "check the address and port in the client, which are those of another service",
            ),
        }
    }

    /// Refuses `request` with an error that closes the connection. Logs a warning.
    pub fn refuse(self, request: &Request) -> actix_web::Error {
        static WARNED: Mutex<[Option<Instant>; ForeignProtocol::ALL.len()]> =
            Mutex::new([None; ForeignProtocol::ALL.len()]);
        let (cause, remedy) = self.explanation();
        let now = Instant::now();
        let is_due = {
            let mut warned = WARNED.lock().unwrap_or_else(PoisonError::into_inner);
            let last = &mut warned[self as usize];
            let is_due = last.is_none_or(|last| now.duration_since(last) >= WARN_INTERVAL);
            if is_due {
                *last = Some(now);
            }
            is_due
        };
        if is_due {
            let peer = request.peer_addr().map(tracing::field::display);
            tracing::warn!(peer, cause, remedy, "a client does not use HTTP/1.1");
        }
        let status = match self {
            Self::Http2 => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            _ => StatusCode::BAD_REQUEST,
        };
        let refusal = Refusal::new(status.as_u16(), format!("{cause}: {remedy}"));
        let answer = HttpResponse::build(status).force_close().json(refusal);
        InternalError::from_response(cause, answer).into()
    }
}

impl<S> ProtocolDetector<S> {
    /// Wraps `io`, from which nothing was read.
    pub fn new(io: S) -> Self {
        Self { io, state: State::Start }
    }

    /// The wrapped connection.
    pub fn get_ref(&self) -> &S {
        &self.io
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ProtocolDetector<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.state == State::Foreign {
            let mut space = [0; DISCARD_BUFFER];
            let mut discarded = ReadBuf::new(&mut space);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut discarded))?;
            if discarded.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = into.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, into))?;
        let start = &into.filled()[before..];
        if self.state == State::Start && !start.is_empty() {
            let foreign = ForeignProtocol::detect(start);
            self.state = if foreign.is_some() { State::Foreign } else { State::Http };
            if let Some(foreign) = foreign {
                into.set_filled(before);
                let request = format!("{} / HTTP/1.0\r\n\r\n", foreign.method());
                if into.remaining() < request.len() {
                    return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
                }
                into.put_slice(request.as_bytes());
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ProtocolDetector<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_1_is_never_foreign() {
        let starts = [
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "\r\n\r\nPOST /a HTTP/1.0\r\n",
            "GET /proxy HTTP/1.1\n",
            "PROPFIND / HTTP/1.1\r\n",
            "PROXY / HTTP/1.1\r\n",
            "PRI",
            "G",
            "GET /a/long/target/that/goes/on",
            "\r\n",
            "",
        ];
        for start in starts {
            assert_eq!(ForeignProtocol::detect(start.as_bytes()), None, "{start:?}");
        }
    }
}
