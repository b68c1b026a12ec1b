//! A minimal Socket.IO client, so that one thread drives thousands: no mask, no JSON parser, one small
//! buffer. Answers pings and passes every other packet to a closure.

use std::{io, net::SocketAddrV4, rc::Rc};

use tokio::{net::TcpStream, time::timeout};

use crate::{
    Error,
    users::{RESPONSE_TIMEOUT, User, exchange},
};

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
    let request = format!(
        "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: {server}\r\nCookie: auth_token={}\r\n\
         Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        user.token
    );
    let (stream, answer) = exchange(user, server, &request).await?;
    if answer.status != 101 {
        return Err(answer.unexpected("opening a socket"));
    }
    let socket = Socket { stream: Rc::new(stream) };
    socket.send(b"40").await?;
    let mut reader = Reader { socket: socket.clone(), buffer: answer.rest };
    timeout(RESPONSE_TIMEOUT, reader.connected()).await.map_err(|_| "no answer to CONNECT in time")??;
    Ok((socket, reader))
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

impl Reader {
    /// Passes every packet except pings to `record` until the connection ends.
    pub async fn run(mut self, mut record: impl FnMut(&[u8])) {
        while let Ok(true) = self.packets(&mut record).await
            && self.fill().await.is_ok_and(|n| n > 0)
        {}
    }

    /// Waits for the answer to CONNECT.
    async fn connected(&mut self) -> Result<(), Error> {
        let mut answer = None;
        loop {
            let is_open = self
                .packets(&mut |packet| {
                    if let [b'4', b'0' | b'4', ..] = packet {
                        answer = Some(packet.to_vec());
                    }
                })
                .await?;
            match &answer {
                Some(packet) if packet.starts_with(b"40") => return Ok(()),
                Some(packet) => return Err(format!("CONNECT: {}", String::from_utf8_lossy(packet)).into()),
                None if !is_open || self.fill().await? == 0 => return Err("CONNECT: end of stream".into()),
                None => {}
            }
        }
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
