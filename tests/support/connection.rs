//! One WebSocket to the server and the task that reads it: answers pings, reports packets and faults. Opened by `socket`,
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

/// What a client says when it opens a connection.
#[derive(Debug, Clone, Default)]
pub struct Handshake {
    /// More query, with a leading `&`.
    pub query: String,
    /// Headers of the HTTP request.
    pub headers: Vec<(String, String)>,
    /// The payload of CONNECT.
    pub auth: Option<Value>,
}

/// Why a connection did not come about.
#[derive(Debug)]
#[allow(dead_code, reason = "the payloads are for the reader of a failing test")]
pub enum ConnectFailure {
    /// The HTTP request was refused.
    Http(u16, String),
    /// CONNECT was refused.
    ConnectError(Value),
    /// The connection ended before CONNECT was answered.
    Ended(Ending),
    /// Nobody listens, or the connection broke before there was an answer.
    Unreachable(String),
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// The server left the namespace first (packet `41`).
    pub left: bool,
    /// The code of the WebSocket close frame, if there was one.
    pub code: Option<u16>,
    /// The reason in it, or nothing.
    pub why: String,
}

/// What the reading task reports.
#[derive(Debug)]
pub enum Incoming {
    /// A packet other than a ping.
    Packet(Packet),
    /// Something no conformant server sends.
    Fault(String),
    /// Nothing will follow.
    Ended(Ending),
}

/// The two ends of a running connection. Dropping `orders` closes it.
pub struct Connection {
    /// From the task that reads.
    pub incoming: mpsc::UnboundedReceiver<Incoming>,
    /// To the task that writes.
    pub outgoing: mpsc::UnboundedSender<Message>,
}

impl Handshake {
    /// With the session cookie.
    pub fn cookie(self, token: &str) -> Self {
        self.header("Cookie", &format!("auth_token={token}"))
    }

    /// With one more header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// With more query, which starts with `&`.
    pub fn query(mut self, query: &str) -> Self {
        self.query = query.into();
        self
    }

    /// With a CONNECT payload.
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
    /// Opens a WebSocket and starts the task.
    pub async fn open(from: Ipv4Addr, to: SocketAddr, handshake: &Handshake) -> Result<Self, ConnectFailure> {
        let unreachable = |error: &dyn std::fmt::Display| ConnectFailure::Unreachable(error.to_string());
        let stream = with_timeout("a TCP connection", try_connect(from, to))
            .await
            .map_err(|error| unreachable(&error))?;
        let upgrade = client_async(handshake.request(to), stream);
        let ws = match with_timeout("an answer to the upgrade", upgrade).await {
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

/// Reads, answers pings, writes what it is told to, until either side ends.
async fn pump(
    mut ws: WebSocketStream<TcpStream>,
    report: mpsc::UnboundedSender<Incoming>,
    mut outgoing: mpsc::UnboundedReceiver<Message>,
) {
    let mut ending = Ending { left: false, code: None, why: String::new() };
    loop {
        let frame = tokio::select! {
            frame = ws.next() => frame,
            order = outgoing.recv() => match order {
                Some(order) => {
                    // A connection that ended says so on its reading side.
                    let _ = ws.send(order).await;
                    continue;
                }
                None => break,
            },
        };
        match received(frame, &mut ending) {
            Received::Ping => drop(ws.send(Message::text("3")).await),
            Received::Nothing => {}
            Received::Packet(packet) => drop(report.send(Incoming::Packet(packet))),
            Received::Fault(fault) => drop(report.send(Incoming::Fault(fault))),
            Received::End => break,
        }
    }
    let _ = report.send(Incoming::Ended(ending));
    let _ = ws.close(None).await;
}

/// What one frame means for the task.
enum Received {
    Packet(Packet),
    Ping,
    Fault(String),
    Nothing,
    End,
}

fn received(frame: Option<Result<Message, Error>>, ending: &mut Ending) -> Received {
    match frame {
        Some(Ok(Message::Text(text))) => match Packet::decode(&text) {
            Ok(Packet::Ping) => Received::Ping,
            Ok(packet) => {
                ending.left |= packet == Packet::Left;
                Received::Packet(packet)
            }
            Err(fault) => Received::Fault(fault),
        },
        Some(Ok(Message::Close(frame))) => {
            if let Some(frame) = frame {
                (ending.code, ending.why) = (Some(frame.code.into()), frame.reason.to_string());
            }
            Received::Nothing
        }
        Some(Ok(Message::Ping(_) | Message::Pong(_))) => Received::Nothing,
        Some(Ok(other)) => Received::Fault(format!("an unexpected frame: {other:?}")),
        Some(Err(Error::Protocol(
            ProtocolError::ResetWithoutClosingHandshake | ProtocolError::SendAfterClosing,
        ))) => Received::End,
        Some(Err(Error::Protocol(fault))) => Received::Fault(fault.to_string()),
        Some(Err(_)) | None => Received::End,
    }
}
