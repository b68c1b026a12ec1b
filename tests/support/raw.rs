//! A WebSocket whose bytes the test writes itself: for frames that no conformant client sends, and for clients that do not read.
//! Used by `frames` and `slow_reader`; calls `http` for the connection.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

use super::with_timeout;

/// A connection after the HTTP upgrade.
pub struct RawSocket {
    /// The connection.
    stream: TcpStream,
    /// Bytes that were read and not yet returned.
    read: Vec<u8>,
}

/// A frame from the server.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    /// The first byte: FIN, reserved bits, opcode.
    pub first: u8,
    /// The payload, which a server never masks.
    pub payload: Vec<u8>,
}

impl RawSocket {
    /// Upgrades with a session; `receive_buffer` limits the kernel's receive buffer, in bytes.
    pub async fn open(from: Ipv4Addr, to: SocketAddr, token: &str, receive_buffer: Option<u32>) -> Self {
        let mut refused = 0;
        loop {
            let mut raw = Self { stream: dial(from, to, receive_buffer).await, read: Vec::new() };
            raw.write(upgrade_request(to, token).as_bytes()).await;
            let head = raw.read_head().await;
            if head.starts_with("HTTP/1.1 101 ") {
                return raw;
            }
            // A burst of handshakes may exceed what the session store answers in time: retry as a client does on 503 with Retry-After.
            refused += 1;
            assert!(
                head.starts_with("HTTP/1.1 503 ") && head.contains("retry-after: 1") && refused < 10,
                "{head}"
            );
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
    }

    /// Writes bytes unchanged. Errors are ignored: after a close by the server its response can still be read.
    pub async fn write(&mut self, bytes: &[u8]) {
        let _ = with_timeout("the server to read", self.stream.write_all(bytes)).await;
    }

    /// Sends a masked text frame, as a conformant client does.
    pub async fn send_text(&mut self, text: &str) {
        self.write(&masked(0x81, text.as_bytes())).await;
    }

    /// Joins `/` and waits for the server's CONNECT.
    pub async fn join(&mut self) {
        self.send_text("40").await;
        self.until(|frame| frame.payload.starts_with(b"40")).await;
    }

    /// Reads frames until one fits; the connection must stay open until then.
    pub async fn until(&mut self, mut fits: impl FnMut(&Frame) -> bool) {
        loop {
            let frame = self.frame().await.expect("an open connection");
            assert!(frame.first != 0x88, "closed: {frame:?}");
            if fits(&frame) {
                return;
            }
        }
    }

    /// The next frame; `None` at the end of the stream.
    pub async fn frame(&mut self) -> Option<Frame> {
        with_timeout("a frame", async {
            loop {
                if let Some(frame) = self.take_frame() {
                    return Some(frame);
                }
                if !self.fill().await {
                    return None;
                }
            }
        })
        .await
    }

    fn take_frame(&mut self) -> Option<Frame> {
        let (&first, &length) = (self.read.first()?, self.read.get(1)?);
        let (start, length) = match length {
            126 => (4, usize::from(u16::from_be_bytes(*self.read.get(2..4)?.first_chunk()?))),
            127 => (10, usize::try_from(u64::from_be_bytes(*self.read.get(2..10)?.first_chunk()?)).ok()?),
            short => (2, usize::from(short)),
        };
        let payload = self.read.get(start..start + length)?.to_vec();
        self.read.drain(..start + length);
        Some(Frame { first, payload })
    }

    async fn read_head(&mut self) -> String {
        with_timeout("a response to the upgrade", async {
            loop {
                if let Some(end) = self.read.windows(4).position(|window| window == b"\r\n\r\n") {
                    let head = self.read.drain(..end + 4).collect::<Vec<_>>();
                    return String::from_utf8_lossy(&head).into_owned();
                }
                assert!(self.fill().await, "the connection ended before the response to the upgrade");
            }
        })
        .await
    }

    /// Reads some bytes; false at the end of the stream or after a reset.
    async fn fill(&mut self) -> bool {
        let n = self.stream.read_buf(&mut self.read).await;
        n.is_ok_and(|n| n > 0)
    }
}

/// A client's frame with its true length and a mask of zeros, which leaves the payload unchanged.
pub fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        short @ 0..126 => frame.push(0x80 | short as u8),
        middle @ 126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(middle as u16).to_be_bytes());
        }
        long => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

async fn dial(from: Ipv4Addr, to: SocketAddr, receive_buffer: Option<u32>) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::from((from, 0))).expect("Linux allows every address of 127.0.0.0/8");
    if let Some(size) = receive_buffer {
        socket.set_recv_buffer_size(size).expect("a size the kernel takes");
    }
    with_timeout("a TCP connection", socket.connect(to)).await.expect("the server listens")
}

fn upgrade_request(to: SocketAddr, token: &str) -> String {
    format!(
        "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: {to}\r\nCookie: auth_token={token}\r\n\
         Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}
