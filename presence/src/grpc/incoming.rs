//! The accept loop: at most so many connections, and a pause when the system has no more descriptors. What a connection sends
//! is metered by [`super::flood`]. Called by the server.

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

/// How long nothing is accepted after an accept failed.
const PAUSE: Duration = Duration::from_millis(100);

/// How long a client may take to send its preface and its first frame. Later silence is found by keepalive pings.
const BEGIN: Duration = Duration::from_secs(5);

/// A connection, and the room it takes among those that may be open.
#[derive(Debug)]
pub(super) struct Counted {
    stream: TcpStream,
    peer: SocketAddr,
    meter: Meter,
    /// Until the client has begun: when it must have. Then: when it is read again, if that is not now.
    timer: Option<Pin<Box<Sleep>>>,
    _place: OwnedSemaphorePermit,
}

impl Counted {
    fn new(stream: TcpStream, peer: SocketAddr, place: OwnedSemaphorePermit) -> Self {
        let timer = Some(Box::pin(sleep(BEGIN)));
        Self { stream, peer, meter: Meter::new(Instant::now()), timer, _place: place }
    }

    /// Ready when bytes may be read.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(timer) = &mut self.timer else { return Poll::Ready(Ok(())) };
        let is_over = timer.as_mut().poll(cx).is_ready();
        if !self.meter.has_begun() {
            return Poll::Ready(if is_over { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) });
        }
        ready!(is_over.then_some(()).map_or(Poll::Pending, Poll::Ready));
        self.timer = None;
        Poll::Ready(Ok(()))
    }

    /// Counts what was read.
    fn note(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.meter.count(bytes, Instant::now()) {
            Ok(pause) => {
                if self.meter.has_begun() {
                    self.timer = (!pause.is_zero()).then(|| Box::pin(sleep(pause)));
                }
                Ok(())
            }
            Err(flood) => {
                metrics::counter!("godzilla_presence_floods_total", "frame" => flood.frame).increment(1);
                tracing::warn!(peer = %self.peer, frame = flood.frame, "a connection sends too many frames, it is closed");
                Err(io::Error::new(io::ErrorKind::ConnectionAborted, "too many frames"))
            }
        }
    }
}

/// The connections of `listener`. Over `most` at once, the next waits in the listener's backlog until one ends.
pub(super) fn accept(listener: TcpListener, most: u32) -> impl Stream<Item = io::Result<Counted>> {
    let places = Arc::new(Semaphore::new(most as usize));
    stream::unfold((listener, places), |(listener, places)| async {
        let place = Arc::clone(&places).acquire_owned().await.ok()?;
        let (stream, peer) = next(&listener).await;
        Some((Ok(Counted::new(stream, peer, place)), (listener, places)))
    })
}

async fn next(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Without it answers are only slower.
                let _ = stream.set_nodelay(true);
                return (stream, peer);
            }
            Err(error) => {
                tracing::warn!(%error, "presence cannot accept");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

impl Connected for Counted {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_turn(cx))?;
        let before = to.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, to))?;
        Poll::Ready(self.note(&to.filled()[before..]))
    }
}

impl AsyncWrite for Counted {
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
