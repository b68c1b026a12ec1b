//! The accept loop: it limits the number of connections, and pauses when the system has no descriptors left. [`super::flood`] limits
//! what a connection sends.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use futures_util::{Stream, stream};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Sleep, sleep},
};
use tonic::transport::server::{Connected, TcpConnectInfo};

use super::flood::Meter;

/// Pause after an accept failed.
const PAUSE: Duration = Duration::from_millis(100);

/// Timeout for the client's preface and first frame. Keepalive pings detect dead connections later.
const BEGIN: Duration = Duration::from_secs(5);

/// A connection that counts against the limit of open connections.
#[derive(Debug)]
pub(super) struct LimitedConnection {
    stream: TcpStream,
    peer: SocketAddr,
    meter: Meter,
    /// Before the first frame: the deadline of the first frame. After it: the time of the next read, if reads are delayed.
    timer: Option<Pin<Box<Sleep>>>,
    _permit: OwnedSemaphorePermit,
}

impl LimitedConnection {
    fn new(stream: TcpStream, peer: SocketAddr, permit: OwnedSemaphorePermit) -> Self {
        let timer = Some(Box::pin(sleep(BEGIN)));
        Self { stream, peer, meter: Meter::new(Instant::now()), timer, _permit: permit }
    }

    /// Waits while reads are delayed by the meter of floods. Fails with `TimedOut` when the first frame has not arrived in time.
    fn poll_read_allowed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(timer) = &mut self.timer else { return Poll::Ready(Ok(())) };
        let is_over = timer.as_mut().poll(cx).is_ready();
        if !self.meter.has_begun() {
            return Poll::Ready(if is_over { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) });
        }
        ready!(is_over.then_some(()).map_or(Poll::Pending, Poll::Ready));
        self.timer = None;
        Poll::Ready(Ok(()))
    }

    /// Counts the bytes of a read.
    fn count(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.meter.count(bytes, Instant::now()) {
            Ok(pause) => {
                if self.meter.has_begun() {
                    self.timer = (!pause.is_zero()).then(|| Box::pin(sleep(pause)));
                }
                Ok(())
            }
            Err(flood) => {
                metrics::counter!("godzilla_presence_floods_total", "frame" => flood.frame).increment(1);
                tracing::warn!(peer = %self.peer, frame = flood.frame, "too many frames on a connection, closing it");
                Err(io::Error::new(io::ErrorKind::ConnectionAborted, "too many frames"))
            }
        }
    }
}

/// The connections of `listener`. While `limit` connections are open, new ones wait in the listener's backlog.
pub(super) fn accept(listener: TcpListener, limit: u32) -> impl Stream<Item = io::Result<LimitedConnection>> {
    let permits = Arc::new(Semaphore::new(limit as usize));
    stream::unfold((listener, permits), |(listener, permits)| async {
        let permit = Arc::clone(&permits).acquire_owned().await.ok()?;
        let (stream, peer) = next(&listener).await;
        Some((Ok(LimitedConnection::new(stream, peer, permit)), (listener, permits)))
    })
}

async fn next(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // A failure only delays small responses.
                let _ = stream.set_nodelay(true);
                return (stream, peer);
            }
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted; check the limit of open files");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

impl Connected for LimitedConnection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for LimitedConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_read_allowed(cx))?;
        let before = to.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, to))?;
        Poll::Ready(self.count(&to.filled()[before..]))
    }
}

impl AsyncWrite for LimitedConnection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
