//! A connection that hands over at most one request head at a time. The HTTP library reads ahead up to 128 KiB and makes a
//! request of every head in it, at some 7 KiB of memory each; it stops at 16 requests, but looks at their number only between two
//! reads. Given one head per read, it keeps what it promises.
//!
//! Knows nothing of HTTP but that a head ends with an empty line, has a few bytes, and may be answered by 101, behind which there are
//! none. A body in which an empty line happens to be comes in more reads, and nothing else changes.
//!
//! It takes offers of other protocols out of heads ([`offers`]), because the library closes a connection after each of them. It limits
//! how long a head may take that is not the first of its connection, which the library does not. It notes when the client closes its
//! sending side, which the library does not tell handlers.
//!
//! It bounds what unfinished requests take, too. The library keeps a head of up to 128 KiB until it ends, on every connection; what all of
//! them bring is bounded by [`Unfinished`].

use std::{
    io,
    pin::Pin,
    sync::atomic::AtomicUsize,
    task::{Context, Poll},
    time::Duration,
};

use bytes::BytesMut;
use gateway::Hangup;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use super::{
    connections::ConnectionGuard,
    head_rewrite,
    incomplete_request::{IncompleteRequest, RECEIVED},
};

/// See the module.
#[derive(Debug)]
pub struct PipelineLimit<S> {
    io: S,
    /// Read, and not handed over yet: no more than one read brings.
    buffered: BytesMut,
    /// Where the last byte was that was handed over.
    line: LineState,
    /// Whether a head was handed over in the last read: the next one is put off.
    is_head_delivered: bool,
    /// Whether what comes is something else than HTTP by now. An answer that is written behind others does not show it, so the door
    /// notes it, too.
    is_upgraded: bool,
    incomplete: IncompleteRequest,
    head_timer: HeadTimer,
    hangup: Hangup,
    guard: Option<ConnectionGuard>,
    /// Whether the client has yet to read what is written.
    is_write_pending: bool,
}

/// The time limit of a head behind an answer.
#[derive(Debug)]
struct HeadTimer {
    limit: Duration,
    /// Whether an answer has begun and no head has ended since.
    is_next: bool,
    /// Runs while a head has begun and not ended.
    timer: Option<Pin<Box<Sleep>>>,
}

/// The least bytes of a head (`GET / HTTP/1.1`): what ends earlier is none, and is not worth a read of its own.
const MIN_HEAD: usize = 14;

/// How the answer begins that ends HTTP on a connection.
const UPGRADED: &[u8] = b"HTTP/1.1 101";

/// How the answer begins behind which the body of the same request comes.
const CONTINUES: &[u8] = b"HTTP/1.1 100";

/// Where in an empty line a byte is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LineState {
    /// Not in one.
    Text,
    /// Behind the end of the line before it.
    Ended,
    /// Behind that and a carriage return.
    Return,
    /// Behind an empty one.
    Empty,
}

impl<S> PipelineLimit<S> {
    /// Over `io`, which has brought nothing yet; each head but the first may take `limit`.
    pub fn new(io: S, limit: Duration) -> Self {
        Self::with_counter(io, limit, &RECEIVED)
    }

    fn with_counter(io: S, limit: Duration, shared: &'static AtomicUsize) -> Self {
        Self {
            io,
            buffered: BytesMut::new(),
            line: LineState::Text,
            is_head_delivered: false,
            is_upgraded: false,
            incomplete: IncompleteRequest::new(shared),
            head_timer: HeadTimer { limit, is_next: false, timer: None },
            hangup: Hangup::default(),
            guard: None,
            is_write_pending: false,
        }
    }

    /// The same with a place among others, to be closed when they run short.
    pub fn with_guard(mut self, guard: ConnectionGuard) -> Self {
        self.incomplete.count_for(guard.incomplete_bytes());
        self.guard = Some(guard);
        self
    }

    /// Nothing to read: the connection is closed if others need its place and no answer is on its way.
    fn idle(&self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        let is_over = self.guard.as_ref().is_some_and(|guard| guard.is_over(cx));
        if is_over && !self.is_write_pending && !self.is_upgraded {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Poll::Pending
    }

    /// Notified when the client closes its sending side.
    pub fn hangup(&self) -> Hangup {
        self.hangup.clone()
    }

    /// The connection itself.
    pub fn get_ref(&self) -> &S {
        &self.io
    }
}

impl HeadTimer {
    /// An answer, or a part of one, is written.
    fn answered(&mut self, bytes: &[u8]) {
        self.is_next |= !bytes.starts_with(CONTINUES);
    }

    /// Bytes were read; `ended` is whether a head ended with them.
    fn read(&mut self, ended: bool) {
        if ended {
            (self.is_next, self.timer) = (false, None);
        } else if self.is_next && self.timer.is_none() {
            self.timer = Some(Box::pin(sleep(self.limit)));
        }
    }

    /// Whether a head has taken too long; wakes the task when it has.
    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        self.timer.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_ready())
    }
}

impl LineState {
    /// How many of the `bytes` come before the end of the first empty line behind [`LEAST`] bytes, its end included; none without
    /// such an end.
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

impl<S: AsyncRead + Unpin> AsyncRead for PipelineLimit<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if std::mem::take(&mut this.is_head_delivered) {
            // Whoever reads looks at what it has got, and comes back.
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
        let (before, is_start) = (into.filled().len(), this.incomplete.is_empty());
        if this.buffered.is_empty() {
            match Pin::new(&mut this.io).poll_read(cx, into) {
                Poll::Pending => return this.idle(cx),
                Poll::Ready(read) => read?,
            }
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
            into.put_slice(&this.buffered.split_to(length));
            if this.buffered.is_empty() {
                this.buffered = BytesMut::new();
            }
        }
        this.is_head_delivered = !this.buffered.is_empty() && this.line == LineState::Empty;
        this.head_timer.read(this.line == LineState::Empty);
        if this.line == LineState::Empty {
            this.guard.iter().for_each(ConnectionGuard::touch);
            if is_start {
                head_rewrite::rewrite(&mut into.filled_mut()[before..]);
            }
            this.incomplete.end();
            return Poll::Ready(Ok(()));
        }
        Poll::Ready(this.incomplete.grow(into.filled().len() - before))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PipelineLimit<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.is_upgraded |= bytes.starts_with(UPGRADED);
        if !self.is_upgraded {
            self.head_timer.answered(bytes);
        }
        self.incomplete.end();
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.is_write_pending = written.is_pending();
        written
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
    use std::{sync::atomic::Ordering, task::Waker};

    use super::{
        super::incomplete_request::{OWN, SHARED},
        *,
    };

    const LIMIT: Duration = Duration::from_secs(5);

    /// What a connection brings in so many reads.
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

    /// All reads up to the end, with `-` where one was put off.
    fn reads(bits: Vec<&'static [u8]>, room: usize) -> Vec<String> {
        let mut connection = PipelineLimit::new(Bits(bits), LIMIT);
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
    fn a_read_ends_with_the_head() {
        assert_eq!(
            reads(vec![b"GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\nGET"], 100),
            ["GET /1 HTTP/1.1\r\n\r\n", "-", "GET /2 HTTP/1.1\r\n\r\n", "-", "GET"]
        );
        assert_eq!(
            reads(vec![b"GET /1 HTTP/1.1\nA: b\n\nGET /2 HTTP/1.1\n\r\n"], 100),
            ["GET /1 HTTP/1.1\nA: b\n\n", "-", "GET /2 HTTP/1.1\n\r\n"]
        );
    }

    #[test]
    fn an_end_may_come_in_pieces() {
        assert_eq!(
            reads(
                vec![b"GET /1 HTTP/1.1\r\nAccept: text/plain", b"\r\n\r", b"\nGET /2 HTTP/1.1\r\n\r\n"],
                100
            ),
            ["GET /1 HTTP/1.1\r\nAccept: text/plain", "\r\n\r", "\nGET /2 HTTP/1.1\r\n\r\n"]
        );
    }

    #[test]
    fn what_has_no_empty_line_comes_as_it_is() {
        assert_eq!(reads(vec![b"GET /1\r\nA: b\r\n", b"more"], 100), ["GET /1\r\nA: b\r\n", "more"]);
    }

    #[test]
    fn many_empty_lines_are_not_many_reads() {
        let all: &[u8] = &[b'\n'; 1500];
        assert!(reads(vec![all], 2000).len() <= 200);
    }

    #[test]
    fn what_is_held_fits_any_room() {
        let all: &[u8] = b"GET / HTTP/1.1\n\nPOST / HTTP/1.1\nA: bcdefghijkl\n\nrest";
        let read = reads(vec![&all[..30], &all[30..]], 30);
        assert_eq!(read, ["GET / HTTP/1.1\n\n", "-", "POST / HTTP/1.", "1\nA: bcdefghijkl\n\n", "-", "rest"]);
    }

    #[test]
    fn unfinished_requests_share_a_bound_and_give_it_back() {
        static ALL: AtomicUsize = AtomicUsize::new(0);
        let mut cx = Context::from_waker(Waker::noop());
        let mut reads = |connection: &mut PipelineLimit<_>| {
            let mut space = vec![0; SHARED];
            Pin::new(connection).poll_read(&mut cx, &mut ReadBuf::new(&mut space))
        };
        let long: &[u8] = &vec![b'a'; SHARED / 2 + OWN];
        let long: &[u8] = Box::leak(long.into());
        let open = |bits| PipelineLimit::with_counter(tokio::io::join(Bits(bits), Vec::new()), LIMIT, &ALL);
        let mut one = open(vec![long, b"A: bcdefghijklm\r\n\r\n", long]);
        let mut two = open(vec![long, b"x"]);
        assert!(matches!(reads(&mut one), Poll::Ready(Ok(()))));
        assert!(matches!(reads(&mut two), Poll::Ready(Ok(()))));
        assert_eq!(ALL.load(Ordering::Relaxed), SHARED);
        assert!(matches!(reads(&mut two), Poll::Ready(Err(_))), "one byte too many");
        // Who brings little is let through all the same.
        assert!(matches!(reads(&mut open(vec![&long[..OWN]])), Poll::Ready(Ok(()))));
        assert!(matches!(reads(&mut one), Poll::Ready(Ok(()))), "the end of a head");
        drop(two);
        assert_eq!(ALL.load(Ordering::Relaxed), 0);
        assert!(matches!(reads(&mut one), Poll::Ready(Ok(()))));
        assert_eq!(ALL.load(Ordering::Relaxed), SHARED / 2);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut one).poll_write(&mut cx, b"HTTP/1.1 200 OK").is_ready());
        assert_eq!(ALL.load(Ordering::Relaxed), 0, "answered");
    }

    #[test]
    fn behind_the_answer_101_nothing_is_cut() {
        let bits = Bits(vec![b"GET / HTTP/1.1\r\n\r\n", b"first frame, long\n\nsecond frame, long\n\n"]);
        let mut connection = PipelineLimit::new(tokio::io::join(bits, Vec::new()), LIMIT);
        let mut cx = Context::from_waker(Waker::noop());
        let mut next = |connection: &mut PipelineLimit<_>| {
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
