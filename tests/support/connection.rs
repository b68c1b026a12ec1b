//! One WebSocket to the server and the task that reads it: responds to pings, reports packets and faults. Opened by `socket`;
//! decodes with `packet`.

use std::net::{Ipv4Addr, SocketAddr};

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::{net::TcpStream, sync::mpsc};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{
        Error, Message,
        client::IntoClientRequest,
        error::ProtocolError,
        http::{HeaderName, HeaderValue, Request},
    },
};

use super::{http::try_connect, packet::Packet, with_timeout};

/// The request of a client that opens a connection.
#[derive(Debug, Clone, Default)]
pub struct Handshake {
    /// Further query parameters, with a leading `&`.
    pub query: String,
    /// Headers of the HTTP request.
    pub headers: Vec<(String, String)>,
    /// The payload of CONNECT.
    pub auth: Option<Value>,
}

/// Why a connection attempt failed.
#[derive(Debug)]
#[allow(dead_code, reason = "a failing test prints the payloads")]
pub enum ConnectFailure {
    /// The HTTP request was refused.
    Http(u16, String),
    /// CONNECT was refused.
    ConnectError(Value),
    /// The connection ended before CONNECT was answered.
    Ended(Ending),
    /// The connection was refused, or it broke before a response.
    Unreachable(String),
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// The server left the namespace first (packet `41`).
    pub left: bool,
    /// The code of the WebSocket close frame, if there was one.
    pub code: Option<u16>,
    /// The reason in the close frame, or empty.
    pub why: String,
}

/// A report of the reading task.
#[derive(Debug)]
pub enum Incoming {
    /// A packet other than a ping.
    Packet(Packet),
    /// Data that no conformant server sends.
    Fault(String),
    /// The last report.
    Ended(Ending),
}

/// The two ends of a running connection. Dropping `outgoing` closes it.
pub struct Connection {
    /// Reports of the reading task.
    pub incoming: mpsc::UnboundedReceiver<Incoming>,
    /// Frames for the server.
    pub outgoing: mpsc::UnboundedSender<Message>,
}

impl Handshake {
    /// Adds the session cookie.
    pub fn cookie(self, token: &str) -> Self {
        self.header("Cookie", &format!("auth_token={token}"))
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets further query parameters; the text starts with `&`.
    pub fn query(mut self, query: &str) -> Self {
        self.query = query.into();
        self
    }

    /// Sets the payload of CONNECT.
    pub fn auth(mut self, auth: Value) -> Self {
        self.auth = Some(auth);
        self
    }

    fn request(&self, to: SocketAddr) -> Request<()> {
        let uri = format!("ws://{to}/socket.io/?EIO=4&transport=websocket{}", self.query);
        let mut request = uri.into_client_request().expect("a well-formed address");
        for (name, value) in &self.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a header name");
            request
                .headers_mut()
                .append(name, HeaderValue::from_bytes(value.as_bytes()).expect("a header value"));
        }
        request
    }
}

impl Connection {
    /// Opens a WebSocket and starts the reading task.
    pub async fn open(from: Ipv4Addr, to: SocketAddr, handshake: &Handshake) -> Result<Self, ConnectFailure> {
        let unreachable = |error: &dyn std::fmt::Display| ConnectFailure::Unreachable(error.to_string());
        let stream = with_timeout("a TCP connection", try_connect(from, to))
            .await
            .map_err(|error| unreachable(&error))?;
        let upgrade = client_async(handshake.request(to), stream);
        let ws = match with_timeout("a response to the upgrade", upgrade).await {
            Ok((ws, _)) => ws,
            Err(Error::Http(response)) => {
                let body = response.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
                return Err(ConnectFailure::Http(response.status().as_u16(), body.into_owned()));
            }
            Err(error @ (Error::Io(_) | Error::Protocol(ProtocolError::HandshakeIncomplete))) => {
                return Err(unreachable(&error));
            }
            Err(error) => panic!("the upgrade failed: {error}"),
        };
        let (report, incoming) = mpsc::unbounded_channel();
        let (outgoing, queue) = mpsc::unbounded_channel();
        tokio::spawn(pump(ws, report, queue));
        Ok(Self { incoming, outgoing })
    }
}

/// Reads frames, responds to pings and writes outgoing frames until either side ends the connection.
async fn pump(
    mut ws: WebSocketStream<TcpStream>,
    report: mpsc::UnboundedSender<Incoming>,
    mut outgoing: mpsc::UnboundedReceiver<Message>,
) {
    let mut ending = Ending { left: false, code: None, why: String::new() };
    loop {
        let frame = tokio::select! {
            frame = ws.next() => frame,
            message = outgoing.recv() => match message {
                Some(message) => {
                    // The reading side reports the end of the connection.
                    let _ = ws.send(message).await;
                    continue;
                }
                None => break,
            },
        };
        match classify(frame, &mut ending) {
            FrameKind::Ping => drop(ws.send(Message::text("3")).await),
            FrameKind::Nothing => {}
            FrameKind::Packet(packet) => drop(report.send(Incoming::Packet(packet))),
            FrameKind::Fault(fault) => drop(report.send(Incoming::Fault(fault))),
            FrameKind::End => break,
        }
    }
    let _ = report.send(Incoming::Ended(ending));
    let _ = ws.close(None).await;
}

/// The meaning of one frame for the reading task.
enum FrameKind {
    Packet(Packet),
    Ping,
    Fault(String),
    Nothing,
    End,
}

fn classify(frame: Option<Result<Message, Error>>, ending: &mut Ending) -> FrameKind {
    match frame {
        Some(Ok(Message::Text(text))) => match Packet::decode(&text) {
            Ok(Packet::Ping) => FrameKind::Ping,
            Ok(packet) => {
                ending.left |= packet == Packet::Left;
                FrameKind::Packet(packet)
            }
            Err(fault) => FrameKind::Fault(fault),
        },
        Some(Ok(Message::Close(frame))) => {
            if let Some(frame) = frame {
                (ending.code, ending.why) = (Some(frame.code.into()), frame.reason.to_string());
            }
            FrameKind::Nothing
        }
        Some(Ok(Message::Ping(_) | Message::Pong(_))) => FrameKind::Nothing,
        Some(Ok(other)) => FrameKind::Fault(format!("an unexpected frame: {other:?}")),
        Some(Err(Error::Protocol(
            ProtocolError::ResetWithoutClosingHandshake | ProtocolError::SendAfterClosing,
        ))) => FrameKind::End,
        Some(Err(Error::Protocol(fault))) => FrameKind::Fault(fault.to_string()),
        Some(Err(_)) | None => FrameKind::End,
    }
}
