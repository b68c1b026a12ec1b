//! A connection whose reads pass at most one request head to the HTTP library. The library reads ahead up to 128 KiB and creates a
//! request of about 7 KiB for each head in it. It limits pipelines to 16 requests, but checks the limit only between two reads.
//!
//! It needs three facts of HTTP: a head ends with an empty line, has a minimum length, and can be answered by 101, after which no heads
//! follow. A body with an empty line takes more reads and is otherwise unaffected.
//!
//! It also limits the time of heads after the first one of a connection and the memory of unfinished requests, and reports when the
//! client closes its sending side. The library does none of these.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use gateway::Hangup;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use super::shares::{Share, Unfinished, UnfinishedRequest};

/// Minimum length of a head (`GET / HTTP/1.1`). An empty line within fewer bytes does not end a read.
const MIN_HEAD: usize = 14;

/// Beginning of the response after which the connection uses another protocol.
const UPGRADED: &[u8] = b"HTTP/1.1 101";

/// Beginning of the interim response after which the body of the same request follows.
const CONTINUES: &[u8] = b"HTTP/1.1 100";

/// A connection whose reads end at the end of a request head.
#[derive(Debug)]
pub struct Connection<S> {
    io: S,
    /// Bytes that were read and not passed on. At most the bytes of one read.
    buffered: BytesMut,
    /// The position of the last byte that was passed on.
    line: LineState,
    /// Whether the last read passed a head on and more bytes are buffered. The next read is then deferred once.
    defers_next_read: bool,
    /// Whether the connection uses another protocol than HTTP. The 101 response is not visible here when it is
    /// written after other bytes, so the gateway's middleware reports it, too.
    is_upgraded: bool,
    unfinished: UnfinishedRequest,
    head_timer: HeadTimer,
    hangup: Hangup,
    /// The count of the connection, which ends with it.
    _share: Option<Share>,
}

/// The deadline of the heads after the first one.
#[derive(Debug)]
struct HeadTimer {
    limit: Duration,
    /// Whether a response has begun and no head has ended since.
    is_next: bool,
    /// Runs while such a head is incomplete.
    timer: Option<Pin<Box<Sleep>>>,
}

/// The position of a byte relative to an empty line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LineState {
    /// Within a line.
    Text,
    /// After a line feed.
    Ended,
    /// After a line feed and a carriage return.
    Return,
    /// After an empty line.
    Empty,
}

impl<S> Connection<S> {
    /// Wraps `io`, from which nothing was read. Each head after the first one has the deadline `limit`.
    pub fn new(io: S, limit: Duration, unfinished: Unfinished, share: Option<Share>) -> Self {
        Self {
            io,
            buffered: BytesMut::new(),
            line: LineState::Text,
            defers_next_read: false,
            is_upgraded: false,
            unfinished: UnfinishedRequest::new(unfinished),
            head_timer: HeadTimer { limit, is_next: false, timer: None },
            hangup: Hangup::default(),
            _share: share,
        }
    }

    /// Notified when the client closes its sending side.
    pub fn hangup(&self) -> Hangup {
        self.hangup.clone()
    }

    /// The wrapped connection.
    pub fn get_ref(&self) -> &S {
        &self.io
    }
}

impl HeadTimer {
    /// Records a read. `ended`: whether it completed a head.
    fn read(&mut self, ended: bool) {
        if ended {
            (self.is_next, self.timer) = (false, None);
        } else if self.is_next && self.timer.is_none() {
            self.timer = Some(Box::pin(sleep(self.limit)));
        }
    }

    /// Whether the current head has exceeded its deadline. Wakes the task when it has.
    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        self.timer.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_ready())
    }
}

impl LineState {
    /// The number of bytes up to and including the first empty line after [`MIN_HEAD`] bytes. `None` when there is no
    /// such line.
    fn end_of_head(&mut self, bytes: &[u8]) -> Option<usize> {
        for (at, byte) in bytes.iter().enumerate() {
            *self = match (*self, byte) {
                (Self::Ended | Self::Return, b'\n') if at >= MIN_HEAD => {
                    *self = Self::Empty;
                    return Some(at + 1);
                }
                (_, b'\n') => Self::Ended,
                (Self::Ended, b'\r') => Self::Return,
                _ => Self::Text,
            };
        }
        None
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if std::mem::take(&mut this.defers_next_read) {
            // The reader handles the head that it has received, then reads again.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        this.is_upgraded |= this.hangup.is_upgraded();
        if this.is_upgraded && this.buffered.is_empty() {
            this.head_timer.timer = None;
            return Pin::new(&mut this.io).poll_read(cx, into);
        }
        if !this.is_upgraded && this.head_timer.is_late(cx) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let before = into.filled().len();
        if this.buffered.is_empty() {
            std::task::ready!(Pin::new(&mut this.io).poll_read(cx, into))?;
            if into.filled().len() == before {
                this.hangup.note();
                return Poll::Ready(Ok(()));
            }
            if let Some(length) = this.line.end_of_head(&into.filled()[before..]) {
                this.buffered = BytesMut::from(&into.filled()[before + length..]);
                into.set_filled(before + length);
            }
        } else {
            let room = this.buffered.len().min(into.remaining());
            let length = this.line.end_of_head(&this.buffered[..room]).unwrap_or(room);
            into.put_slice(&this.buffered[..length]);
            this.buffered.advance(length);
        }
        let is_head = this.line == LineState::Empty;
        this.defers_next_read = is_head && !this.buffered.is_empty();
        this.head_timer.read(is_head);
        // The count ends with the response, not with the head: an empty line within a body looks like the end of a head.
        Poll::Ready(this.unfinished.grow(into.filled().len() - before))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.is_upgraded |= bytes.starts_with(UPGRADED);
        if !self.is_upgraded {
            self.head_timer.is_next |= !bytes.starts_with(CONTINUES);
        }
        self.unfinished.end();
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
    use std::task::Waker;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    /// An input with these reads.
    struct Bits(Vec<&'static [u8]>);

    impl AsyncRead for Bits {
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

    /// All reads up to the end, with `-` for a deferred read.
    fn reads(bits: Vec<&'static [u8]>, room: usize) -> Vec<String> {
        let mut connection = Connection::new(Bits(bits), LIMIT, Unfinished::default(), None);
        let mut cx = Context::from_waker(Waker::noop());
        let mut reads = Vec::new();
        loop {
            let mut space = vec![0; room];
            let mut into = ReadBuf::new(&mut space);
            match Pin::new(&mut connection).poll_read(&mut cx, &mut into) {
                Poll::Pending => reads.push("-".to_owned()),
                Poll::Ready(read) => {
                    read.unwrap();
                    if into.filled().is_empty() {
                        return reads;
                    }
                    reads.push(String::from_utf8_lossy(into.filled()).into_owned());
                }
            }
        }
    }

    #[test]
    fn a_read_ends_at_the_end_of_a_head() {
        let pipelined: &[u8] = b"GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\n\r\nGET";
        assert_eq!(
            reads(vec![pipelined], 100),
            ["GET /1 HTTP/1.1\r\n\r\n", "-", "GET /2 HTTP/1.1\n\r\n", "-", "GET"]
        );
        let pieces: [&[u8]; 3] = [b"GET /1 HTTP/1.1\r\nAccept: text/plain", b"\r\n\r", b"\nGET /2"];
        assert_eq!(
            reads(pieces.into(), 100),
            ["GET /1 HTTP/1.1\r\nAccept: text/plain", "\r\n\r", "\nGET /2"],
            "an end that spans reads"
        );
        assert_eq!(reads(vec![b"GET /1\r\nA: b\r\n", b"more"], 100), ["GET /1\r\nA: b\r\n", "more"]);
        let all: &[u8] = b"GET / HTTP/1.1\n\nPOST / HTTP/1.1\nA: bcdefghijkl\n\nrest";
        let read = reads(vec![&all[..30], &all[30..]], 30);
        assert_eq!(read, ["GET / HTTP/1.1\n\n", "-", "POST / HTTP/1.", "1\nA: bcdefghijkl\n\n", "-", "rest"]);
        assert!(reads(vec![&[b'\n'; 1500]], 2000).len() <= 200, "many empty lines take few reads");
    }

    #[test]
    fn reads_after_a_101_response_are_not_split() {
        let bits = Bits(vec![b"GET / HTTP/1.1\r\n\r\n", b"first frame, long\n\nsecond frame, long\n\n"]);
        let io = tokio::io::join(bits, Vec::new());
        let mut connection = Connection::new(io, LIMIT, Unfinished::default(), None);
        let mut cx = Context::from_waker(Waker::noop());
        let mut next = |connection: &mut Connection<_>| {
            let mut space = [0; 100];
            let mut into = ReadBuf::new(&mut space);
            assert!(Pin::new(connection).poll_read(&mut cx, &mut into).is_ready());
            into.filled().len()
        };
        assert_eq!(next(&mut connection), 18);
        let mut cx = Context::from_waker(Waker::noop());
        let answer = b"HTTP/1.1 101 Switching Protocols\r\n\r\n";
        assert!(Pin::new(&mut connection).poll_write(&mut cx, answer).is_ready());
        assert_eq!(next(&mut connection), 39);
    }
}
