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
    connections::Place,
    offers,
    unfinished::{BROUGHT, Unfinished},
};

/// See the module.
#[derive(Debug)]
pub struct HeadByHead<S> {
    io: S,
    /// Read, and not handed over yet: no more than one read brings.
    held: BytesMut,
    /// Where the last byte was that was handed over.
    line: Line,
    /// Whether a head was handed over in the last read: the next one is put off.
    is_served: bool,
    /// Whether what comes is something else than HTTP by now. An answer that is written behind others does not show it, so the door
    /// notes it, too.
    is_upgraded: bool,
    unfinished: Unfinished,
    later: LaterHead,
    hangup: Hangup,
    place: Option<Place>,
    /// Whether the client has yet to read what is written.
    is_unread: bool,
}

/// The time limit of a head behind an answer.
#[derive(Debug)]
struct LaterHead {
    limit: Duration,
    /// Whether an answer has begun and no head has ended since.
    is_next: bool,
    /// Runs while a head has begun and not ended.
    timer: Option<Pin<Box<Sleep>>>,
}

/// The least bytes of a head (`GET / HTTP/1.1`): what ends earlier is none, and is not worth a read of its own.
const LEAST: usize = 14;

/// How the answer begins that ends HTTP on a connection.
const UPGRADED: &[u8] = b"HTTP/1.1 101";

/// How the answer begins behind which the body of the same request comes.
const CONTINUES: &[u8] = b"HTTP/1.1 100";

/// Where in an empty line a byte is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// Not in one.
    Text,
    /// Behind the end of the line before it.
    Ended,
    /// Behind that and a carriage return.
    Return,
    /// Behind an empty one.
    Empty,
}

impl<S> HeadByHead<S> {
    /// Over `io`, which has brought nothing yet; each head but the first may take `limit`.
    pub fn new(io: S, limit: Duration) -> Self {
        Self::sharing(io, limit, &BROUGHT)
    }

    fn sharing(io: S, limit: Duration, shared: &'static AtomicUsize) -> Self {
        Self {
            io,
            held: BytesMut::new(),
            line: Line::Text,
            is_served: false,
            is_upgraded: false,
            unfinished: Unfinished::new(shared),
            later: LaterHead { limit, is_next: false, timer: None },
            hangup: Hangup::default(),
            place: None,
            is_unread: false,
        }
    }

    /// The same with a place among others, to be closed when they run short.
    pub fn at(mut self, place: Place) -> Self {
        self.unfinished.count_for(place.unfinished());
        self.place = Some(place);
        self
    }

    /// Nothing to read: the connection is closed if others need its place and no answer is on its way.
    fn idle(&self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        let is_over = self.place.as_ref().is_some_and(|place| place.is_over(cx));
        if is_over && !self.is_unread && !self.is_upgraded {
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

impl LaterHead {
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

impl Line {
    /// How many of the `bytes` come before the end of the first empty line behind [`LEAST`] bytes, its end included; none without
    /// such an end.
    fn until_empty(&mut self, bytes: &[u8]) -> Option<usize> {
        for (at, byte) in bytes.iter().enumerate() {
            *self = match (*self, byte) {
                (Self::Ended | Self::Return, b'\n') if at >= LEAST => {
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

impl<S: AsyncRead + Unpin> AsyncRead for HeadByHead<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if std::mem::take(&mut this.is_served) {
            // Whoever reads looks at what it has got, and comes back.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        this.is_upgraded |= this.hangup.is_upgraded();
        if this.is_upgraded && this.held.is_empty() {
            this.later.timer = None;
            return Pin::new(&mut this.io).poll_read(cx, into);
        }
        if !this.is_upgraded && this.later.is_late(cx) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let (before, is_start) = (into.filled().len(), this.unfinished.is_empty());
        if this.held.is_empty() {
            match Pin::new(&mut this.io).poll_read(cx, into) {
                Poll::Pending => return this.idle(cx),
                Poll::Ready(read) => read?,
            }
            if into.filled().len() == before {
                this.hangup.note();
                return Poll::Ready(Ok(()));
            }
            if let Some(length) = this.line.until_empty(&into.filled()[before..]) {
                this.held = BytesMut::from(&into.filled()[before + length..]);
                into.set_filled(before + length);
            }
        } else {
            let room = this.held.len().min(into.remaining());
            let length = this.line.until_empty(&this.held[..room]).unwrap_or(room);
            into.put_slice(&this.held.split_to(length));
            if this.held.is_empty() {
                this.held = BytesMut::new();
            }
        }
        this.is_served = !this.held.is_empty() && this.line == Line::Empty;
        this.later.read(this.line == Line::Empty);
        if this.line == Line::Empty {
            this.place.iter().for_each(Place::touch);
            if is_start {
                offers::remove(&mut into.filled_mut()[before..]);
            }
            this.unfinished.end();
            return Poll::Ready(Ok(()));
        }
        Poll::Ready(this.unfinished.grow(into.filled().len() - before))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for HeadByHead<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.is_upgraded |= bytes.starts_with(UPGRADED);
        if !self.is_upgraded {
            self.later.answered(bytes);
        }
        self.unfinished.end();
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.is_unread = written.is_pending();
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
        super::unfinished::{OWN, SHARED},
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
        let mut connection = HeadByHead::new(Bits(bits), LIMIT);
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
        let mut reads = |connection: &mut HeadByHead<_>| {
            let mut space = vec![0; SHARED];
            Pin::new(connection).poll_read(&mut cx, &mut ReadBuf::new(&mut space))
        };
        let long: &[u8] = &vec![b'a'; SHARED / 2 + OWN];
        let long: &[u8] = Box::leak(long.into());
        let open = |bits| HeadByHead::sharing(tokio::io::join(Bits(bits), Vec::new()), LIMIT, &ALL);
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
        let mut connection = HeadByHead::new(tokio::io::join(bits, Vec::new()), LIMIT);
        let mut cx = Context::from_waker(Waker::noop());
        let mut next = |connection: &mut HeadByHead<_>| {
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
