//! Detects clients that do not send HTTP/1 by the first bytes of their connection, because the HTTP library closes such
//! connections without a response. [`ProtocolDetector`] replaces the bytes by a request with a special method.
//! [`ForeignProtocol::of`] detects the method where the peer address is available and a response can be sent. Used by
//! [`super::pipeline_limit`], before all parsers of HTTP.
//!
//! The first bytes can arrive in several reads. They are kept until they decide, at most [`MAX_UNDECIDED`] bytes.

use std::{
    io,
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use actix_http::Request;
use actix_web::{HttpResponse, error::InternalError, http::StatusCode};
use bytes::BytesMut;
use proto::Refusal;
use tokio::io::{AsyncRead, ReadBuf};

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

/// The first bytes of protocols with a fixed beginning: version 2 and version 1 of the PROXY protocol, a TLS handshake
/// record, and HTTP/2 by prior knowledge.
const SIGNATURES: [(&[u8], ForeignProtocol); 6] = [
    (b"\r\n\r\n\0\r\nQUIT\n", ForeignProtocol::Proxy),
    (b"PROXY TCP4 ", ForeignProtocol::Proxy),
    (b"PROXY TCP6 ", ForeignProtocol::Proxy),
    (b"PROXY UNKNOWN", ForeignProtocol::Proxy),
    (b"\x16\x03", ForeignProtocol::Tls),
    (b"PRI * HTTP/2.0\r\n", ForeignProtocol::Http2),
];

/// Maximum number of empty lines before the first request, which clients may send (RFC 9112 §2.2). A line feed alone is not
/// an empty line.
const MAX_EMPTY_LINES: usize = 2;

/// Maximum length of a method, in bytes. Registered methods have at most 17.
const MAX_METHOD: usize = 32;

/// Maximum number of bytes that are kept until they decide. A longer first line passes as HTTP.
const MAX_UNDECIDED: usize = 1_024;

/// Minimum time between two warnings about one protocol. Clients can send these bytes at any rate.
const WARN_INTERVAL: Duration = Duration::from_secs(60);

/// Maximum number of bytes discarded in one read.
const DISCARD_BUFFER: usize = 4_096;

/// The examination of the first bytes of a connection.
#[derive(Debug)]
pub struct ProtocolDetector(State);

#[derive(Debug)]
enum State {
    /// The bytes so far do not decide. They are not passed on yet.
    Undecided(BytesMut),
    /// HTTP/1. The kept bytes are passed on, then all others unchanged.
    Http(BytesMut),
    /// The replacement request was passed on. All other bytes are discarded.
    Foreign,
}

/// What the first bytes of a connection show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// Too few bytes to decide.
    Undecided,
    Http,
    Foreign(ForeignProtocol),
}

impl ForeignProtocol {
    const ALL: [Self; 4] = [Self::Proxy, Self::Tls, Self::Http2, Self::Other];

    /// The protocol of a connection with these first bytes. More bytes do not change a decision.
    fn detect(start: &[u8]) -> Verdict {
        if let Some((_, foreign)) = SIGNATURES.iter().find(|(signature, _)| start.starts_with(signature)) {
            return Verdict::Foreign(*foreign);
        }
        if SIGNATURES.iter().any(|(signature, _)| signature.starts_with(start)) {
            return Verdict::Undecided;
        }
        let mut line = start;
        for _ in 0..MAX_EMPTY_LINES {
            line = line.strip_prefix(b"\r\n").unwrap_or(line);
        }
        if line.is_empty() || line == b"\r" { Verdict::Undecided } else { Self::detect_request_line(line) }
    }

    /// The protocol of a connection whose first line begins with `start`: a method, a target and a version, separated by
    /// spaces (RFC 9112 §3).
    fn detect_request_line(start: &[u8]) -> Verdict {
        let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
        let method = start.iter().take_while(|byte| is_token(byte)).count();
        let rest = match start.get(method) {
            _ if method > MAX_METHOD => return Verdict::Foreign(Self::Other),
            None => return Verdict::Undecided,
            Some(b' ') if method > 0 => &start[method + 1..],
            Some(_) => return Verdict::Foreign(Self::Other),
        };
        let end = rest.iter().position(|byte| *byte == b'\n');
        let line = &rest[..end.unwrap_or(rest.len())];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let has_version =
            || line.rsplit(|byte| *byte == b' ').next().is_some_and(|last| last.starts_with(b"HTTP/"));
        if line.iter().any(u8::is_ascii_control) {
            return Verdict::Foreign(Self::Other);
        }
        match end {
            None => Verdict::Undecided,
            Some(_) if has_version() => Verdict::Http,
            Some(_) => Verdict::Foreign(Self::Other),
        }
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

impl Default for ProtocolDetector {
    /// For a connection from which nothing was read.
    fn default() -> Self {
        Self(State::Undecided(BytesMut::new()))
    }
}

impl ProtocolDetector {
    /// Reads from `io`. Passes nothing on before the first bytes decide.
    pub fn poll_read(
        &mut self,
        io: &mut (impl AsyncRead + Unpin),
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.0 {
            State::Http(kept) if kept.is_empty() => Pin::new(io).poll_read(cx, into),
            State::Http(kept) => {
                pass_on(kept, kept.len(), into);
                Poll::Ready(Ok(()))
            }
            State::Foreign => discard(io, cx),
            State::Undecided(_) => self.poll_first(io, cx, into),
        }
    }

    /// Reads until the first bytes decide.
    fn poll_first(
        &mut self,
        io: &mut (impl AsyncRead + Unpin),
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let State::Undecided(kept) = &mut self.0 else { return Poll::Ready(Ok(())) };
        let before = into.filled().len();
        loop {
            ready!(Pin::new(&mut *io).poll_read(cx, into))?;
            let read = &into.filled()[before..];
            let is_end = read.is_empty();
            kept.extend_from_slice(read);
            into.set_filled(before);
            match ForeignProtocol::detect(kept) {
                Verdict::Foreign(foreign) => {
                    self.0 = State::Foreign;
                    return Poll::Ready(replace(foreign, into));
                }
                Verdict::Undecided if !is_end && kept.len() < MAX_UNDECIDED => {}
                Verdict::Undecided | Verdict::Http => break,
            }
        }
        pass_on(kept, kept.len(), into);
        self.0 = State::Http(std::mem::take(kept));
        Poll::Ready(Ok(()))
    }
}

/// Moves `length` bytes from `kept`, or as many as fit. Frees the memory of `kept` when it is empty.
pub fn pass_on(kept: &mut BytesMut, length: usize, into: &mut ReadBuf<'_>) {
    into.put_slice(&kept.split_to(length.min(into.remaining())));
    if kept.is_empty() {
        *kept = BytesMut::new();
    }
}

/// Passes on the request that replaces bytes of `foreign`.
fn replace(foreign: ForeignProtocol, into: &mut ReadBuf<'_>) -> io::Result<()> {
    let request = format!("{} / HTTP/1.0\r\n\r\n", foreign.method());
    if into.remaining() < request.len() {
        return Err(io::ErrorKind::InvalidData.into());
    }
    into.put_slice(request.as_bytes());
    Ok(())
}

/// Reads bytes that are not passed on, until the end of the connection.
fn discard(io: &mut (impl AsyncRead + Unpin), cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    let mut space = [0; DISCARD_BUFFER];
    let mut discarded = ReadBuf::new(&mut space);
    ready!(Pin::new(io).poll_read(cx, &mut discarded))?;
    if discarded.filled().is_empty() {
        return Poll::Ready(Ok(()));
    }
    cx.waker().wake_by_ref();
    Poll::Pending
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// A connection whose reads return these pieces, then nothing more.
    struct Pieces<'a>(Vec<&'a [u8]>);

    impl AsyncRead for Pieces<'_> {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            into: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            if !self.0.is_empty() {
                into.put_slice(self.0.remove(0));
            }
            Poll::Ready(Ok(()))
        }
    }

    /// What is passed on of these pieces, in reads of at most `room` bytes.
    fn passed_on(pieces: Vec<&[u8]>, room: usize) -> Vec<u8> {
        let (mut detector, mut io, mut all) = (ProtocolDetector::default(), Pieces(pieces), Vec::new());
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            let mut space = vec![0; room];
            let mut into = ReadBuf::new(&mut space);
            match detector.poll_read(&mut io, &mut cx, &mut into) {
                Poll::Pending => {}
                Poll::Ready(read) => {
                    read.unwrap();
                    if into.filled().is_empty() {
                        return all;
                    }
                    all.extend_from_slice(into.filled());
                }
            }
        }
    }

    #[test]
    fn http_1_is_never_foreign_however_it_is_split() {
        let starts = [
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "\r\n\r\nPOST /a HTTP/1.0\r\n",
            "GET /proxy HTTP/1.1\n",
            "PROPFIND / HTTP/1.1\r\n",
            "PROXY / HTTP/1.1\r\n",
            "PRI",
            "PRI * HTTP/1.1\r\n",
            "G",
            "GET /a/long/target/that/goes/on",
            "\r\n",
            "",
        ];
        let long = format!("GET /{} HTTP/1.1\r\n", "a".repeat(3 * MAX_UNDECIDED));
        for start in starts.into_iter().chain([&*long]) {
            let start = start.as_bytes();
            for at in 0..start.len() {
                let (one, two) = start.split_at(at);
                let pieces = [one, two].into_iter().filter(|piece| !piece.is_empty()).collect();
                assert_eq!(passed_on(pieces, 2 * start.len()), start, "split at {at}");
            }
            assert_eq!(passed_on(start.chunks(1).collect(), 64), start);
        }
    }

    /// The first bytes of clients of other protocols, up to the byte that cannot be part of an HTTP request. No further byte
    /// is needed, because such clients wait for a response.
    #[test]
    fn bytes_that_cannot_start_a_request_are_refused_at_once() {
        let cases: [(&str, &[u8]); 26] = [
            ("AMQP", b"AMQP\0"),
            ("MQTT", b"\x10"),
            ("PostgreSQL", b"\0"),
            ("MongoDB", b"\x3a"),
            ("MongoDB, with a length that is a letter", b"A\0"),
            ("Redis", b"*1\r"),
            ("Redis, inline", b"PING\r"),
            ("memcached", b"stats\r"),
            ("memcached, with an argument", b"get key\r\n"),
            ("memcached, binary", b"\x80"),
            ("SMTP", b"EHLO mail.example\r\n"),
            ("SSH", b"SSH-2.0-OpenSSH_9.2\r"),
            ("STOMP", b"CONNECT\n"),
            ("IRC", b"NICK chat\r\n"),
            ("XMPP", b"<"),
            ("LDAP", b"0\x0c"),
            ("RTSP", b"OPTIONS rtsp://a/b RTSP/1.0\r\n"),
            ("Git", b"0032git-upload-pack /a\0"),
            ("Kafka", b"\0"),
            ("RDP", b"\x03"),
            ("telnet", b"\xff"),
            ("a line feed", b"\n"),
            ("a carriage return alone", b"\rG"),
            ("many empty lines", b"\r\n\r\n\r\n"),
            ("HTTP/0.9", b"GET /\r\n"),
            ("a word without an end", &[b'A'; MAX_METHOD + 1]),
        ];
        for (protocol, start) in cases {
            assert_eq!(
                ForeignProtocol::detect(start),
                Verdict::Foreign(ForeignProtocol::Other),
                "{protocol}"
            );
            let before = ForeignProtocol::detect(&start[..start.len() - 1]);
            assert_eq!(before, Verdict::Undecided, "{protocol}, without the last byte");
        }
    }

    #[test]
    fn other_protocols_are_detected_however_they_are_split() {
        let cases: [(&[u8], ForeignProtocol); 8] = [
            (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", ForeignProtocol::Proxy),
            (b"PROXY TCP4 192.0.2.1 192.0.2.2 5000 80\r\nGET / HTTP/1.1\r\n\r\n", ForeignProtocol::Proxy),
            (b"PROXY TCP6 ::1 ::1 5000 80\r\n", ForeignProtocol::Proxy),
            (b"PROXY UNKNOWN\r\n", ForeignProtocol::Proxy),
            (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", ForeignProtocol::Tls),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ForeignProtocol::Http2),
            (b"SSH-2.0-OpenSSH_9.2\r\n", ForeignProtocol::Other),
            (b"*1\r\n$4\r\nPING\r\n", ForeignProtocol::Other),
        ];
        for (bytes, foreign) in cases {
            let expected = format!("{} / HTTP/1.0\r\n\r\n", foreign.method()).into_bytes();
            for at in 1..bytes.len() {
                let (one, two) = bytes.split_at(at);
                assert_eq!(passed_on(vec![one, two], 64), expected, "{foreign:?} split at {at}");
            }
            assert_eq!(passed_on(bytes.chunks(1).collect(), 64), expected, "{foreign:?} byte by byte");
        }
    }
}
