//! A minimal Socket.IO client, so that one thread drives thousands: no mask, no JSON parser, one small
//! buffer. Answers pings and passes every other packet to a closure.

use std::{io, net::SocketAddrV4, rc::Rc, time::Duration};

use tokio::{net::TcpStream, time::timeout};

use crate::{
    error::{Context, Error},
    http::{connect, connect_with_buffer, exchange},
    users::User,
};

/// The longest wait for the CONNECT answer while thousands of clients connect.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);

/// The receive buffer of a client that does not read, in bytes.
const SMALL_BUFFER: u32 = 4096;

/// The sending half of a connection. The reading half is a future on the same thread.
#[derive(Clone)]
pub struct Socket {
    stream: Rc<TcpStream>,
}

/// Reads the frames of one connection.
pub struct Reader {
    socket: Socket,
    buffer: Vec<u8>,
}

/// Opens a connection and joins `/`.
pub async fn open(user: &User, server: SocketAddrV4) -> Result<(Socket, Reader), Error> {
    join(user, server, connect(user.source_address, server).await?).await
}

/// Opens a connection with a small receive buffer and joins `/`.
pub async fn open_lagging(user: &User, server: SocketAddrV4) -> Result<(Socket, Reader), Error> {
    join(user, server, connect_with_buffer(user.source_address, server, Some(16 * SMALL_BUFFER)).await?).await
}

/// Opens a connection with a minimal receive buffer, joins `/`, and reads nothing more.
pub async fn open_blocked(user: &User, server: SocketAddrV4) -> Result<Socket, Error> {
    let stream = connect_with_buffer(user.source_address, server, Some(SMALL_BUFFER)).await?;
    join(user, server, stream).await.map(|(socket, _)| socket)
}

async fn join(user: &User, server: SocketAddrV4, mut stream: TcpStream) -> Result<(Socket, Reader), Error> {
    let request = format!(
        "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: {server}\r\nCookie: auth_token={}\r\n\
         Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        user.token
    );
    let answer = exchange(&mut stream, &request).await?;
    if answer.status != 101 {
        return Err(answer.unexpected("opening a socket"));
    }
    let socket = Socket { stream: Rc::new(stream) };
    socket.send(b"40").await.context("sending CONNECT")?;
    let mut reader = Reader { socket: socket.clone(), buffer: answer.rest };
    let connected =
        timeout(RESPONSE_TIMEOUT, reader.until_connected()).await.map_err(|_| Error::Timeout("CONNECT"))?;
    connected.map(|()| (socket, reader))
}

impl Socket {
    /// Sends one complete text frame. The mask is zero: valid, and free of cost.
    pub async fn send(&self, text: &[u8]) -> io::Result<()> {
        let mut frame = Vec::with_capacity(text.len() + 8);
        frame.push(0x81);
        match u8::try_from(text.len()) {
            Ok(short @ 0..126) => frame.push(0x80 | short),
            _ => {
                let length = u16::try_from(text.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
                frame.push(0x80 | 126);
                frame.extend_from_slice(&length.to_be_bytes());
            }
        }
        frame.extend_from_slice(&[0; 4]);
        frame.extend_from_slice(text);
        let mut rest = &frame[..];
        while !rest.is_empty() {
            self.stream.writable().await?;
            match self.stream.try_write(rest) {
                Ok(n) => rest = &rest[n..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Socket {
    /// Whether the server has closed the connection. Discards received data without waiting for more.
    pub fn has_ended(&self) -> bool {
        let mut chunk = [0; 16 * 1024];
        loop {
            match self.stream.try_read(&mut chunk) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(_) => return true,
            }
        }
    }
}

impl Reader {
    /// Passes every packet except pings to `record` until the connection ends. Returns why it ended.
    pub async fn run(self, record: impl FnMut(&[u8])) -> &'static str {
        self.run_with_pauses(Duration::ZERO, record).await
    }

    /// As [`Reader::run`], with a pause before every read of at most 2 KiB.
    pub async fn run_with_pauses(mut self, pause: Duration, mut record: impl FnMut(&[u8])) -> &'static str {
        loop {
            match self.packets(&mut record).await {
                Ok(true) => {}
                Ok(false) => return "a close frame",
                Err(error) => return end(error.kind()),
            }
            let filled = if pause.is_zero() {
                self.fill().await
            } else {
                tokio::time::sleep(pause).await;
                self.fill_slowly().await
            };
            match filled {
                Ok(0) => return "end of stream",
                Ok(_) => {}
                Err(error) => return end(error.kind()),
            }
        }
    }

    async fn until_connected(&mut self) -> Result<(), Error> {
        let mut outcome = None;
        while outcome.is_none() {
            self.fill().await.context("waiting for CONNECT").and_then(|n| match n {
                0 => Err(Error::Response { what: "CONNECT".into(), answer: "end of stream".into() }),
                _ => Ok(()),
            })?;
            let see = |packet: &[u8]| match packet {
                [b'4', b'0', ..] => outcome = Some(Ok(())),
                [b'4', b'4', refused @ ..] => {
                    let answer = String::from_utf8_lossy(refused).into_owned();
                    outcome = Some(Err(Error::Response { what: "CONNECT".into(), answer }));
                }
                _ => {}
            };
            let mut see = see;
            self.packets(&mut see).await.context("answering a ping")?;
        }
        outcome.unwrap_or(Ok(()))
    }

    async fn fill(&mut self) -> io::Result<usize> {
        loop {
            self.socket.stream.readable().await?;
            self.buffer.reserve(2048);
            match self.socket.stream.try_read_buf(&mut self.buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return other,
            }
        }
    }

    /// Reads at most 2 KiB.
    async fn fill_slowly(&mut self) -> io::Result<usize> {
        let mut chunk = [0; 2048];
        loop {
            self.socket.stream.readable().await?;
            match self.socket.stream.try_read(&mut chunk) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => {
                    let count = other?;
                    self.buffer.extend_from_slice(&chunk[..count]);
                    return Ok(count);
                }
            }
        }
    }

    /// Processes all complete frames in the buffer. Returns false at a close frame.
    async fn packets(&mut self, record: &mut impl FnMut(&[u8])) -> io::Result<bool> {
        let mut at = 0;
        while let Some((start, end)) = frame(&self.buffer[at..]) {
            let (first, payload) = (self.buffer[at], &self.buffer[at + start..at + end]);
            match (first & 0x0f, payload) {
                (8, _) => return Ok(false),
                (1, b"2") => self.socket.send(b"3").await?,
                (1, payload) => record(payload),
                _ => {}
            }
            at += end;
        }
        self.buffer.drain(..at);
        Ok(true)
    }
}

/// The bounds of the first frame's payload, if the frame is complete.
fn frame(bytes: &[u8]) -> Option<(usize, usize)> {
    let (start, length) = match *bytes.get(1)? {
        126 => (4, usize::from(u16::from_be_bytes(*bytes.get(2..4)?.first_chunk()?))),
        127 => (10, usize::try_from(u64::from_be_bytes(*bytes.get(2..10)?.first_chunk()?)).ok()?),
        short => (2, usize::from(short)),
    };
    (bytes.len() >= start + length).then_some((start, start + length))
}

fn end(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::ConnectionReset => "reset",
        io::ErrorKind::BrokenPipe => "broken pipe",
        _ => "an error",
    }
}

#[cfg(test)]
mod tests {
    use super::frame;

    #[test]
    fn only_complete_frames_are_parsed() {
        assert_eq!(frame(&[0x81, 2, b'4', b'0', 0x81]), Some((2, 4)));
        assert_eq!(frame(&[0x81, 2, b'4']), None);
        assert_eq!(frame(&[0x81, 126, 0]), None);
        let long = [&[0x81, 126, 0, 200][..], &[b'x'; 200]].concat();
        assert_eq!(frame(&long), Some((4, 204)));
        assert_eq!(frame(&long[..203]), None);
    }
}
