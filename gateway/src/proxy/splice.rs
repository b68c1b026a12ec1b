//! Copies bytes between a client and a chat node in both directions, after both have accepted the WebSocket. The bytes are
//! not parsed. Each direction runs at the speed of its receiver. When one side closes, the other is closed.

use std::{
    any::Any,
    future::Future,
    io,
    os::fd::{AsRawFd as _, RawFd},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use actix_web::{
    body::{BodySize, MessageBody},
    dev::Extensions,
    rt::{net::TcpStream as ActixStream, spawn},
    web,
};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use nix::sys::socket::{Shutdown, shutdown};
use tokio::{
    io::AsyncWriteExt,
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::oneshot,
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::in_flight::SocketGuard;

/// The size of a read, in bytes.
const READ_SIZE: usize = 16 * 1024;

/// How long a node may not read what a client sends. Then the node counts as dead. A live node closes the connection long
/// before.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the last bytes of a disconnected client may take to reach its node.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The file descriptor of the client's connection, which [`on_connect`] attaches to its requests.
#[derive(Debug, Clone, Copy)]
pub(super) struct Descriptor(RawFd);

/// The direction from the node to the client: the body of the response that opened the WebSocket. The HTTP server polls it
/// while the client reads, and drops it before it closes the connection.
pub(super) struct Splice {
    /// Bytes that the node sent directly after its response.
    ahead: Bytes,
    node: OwnedReadHalf,
    /// The task of the other direction. This direction closes when it ends.
    toward_node: JoinHandle<()>,
    /// Notifies the other direction on drop.
    _ended: oneshot::Sender<()>,
    /// Resolves when the process drains.
    close_signal: Pin<Box<dyn Future<Output = ()>>>,
    client: Option<Descriptor>,
    /// The HTTP server has all bytes and writes them before it polls again.
    is_closing: bool,
}

/// For `HttpServer::on_connect`: attaches the file descriptor, so that a client's connection can be closed when its node
/// closes. Without it, closing takes as long as the server's disconnect timeout.
pub fn on_connect(io: &dyn Any, extensions: &mut Extensions) {
    if let Some(stream) = io.downcast_ref::<ActixStream>() {
        extensions.insert(Descriptor(stream.as_raw_fd()));
    }
}

impl Splice {
    /// Joins the client's payload with the connection to its node, which has accepted the handshake. Must be called on the
    /// worker of the request that `payload` belongs to.
    pub(super) fn new(
        payload: web::Payload,
        node: TcpStream,
        ahead: Bytes,
        client: Option<Descriptor>,
        mut socket: SocketGuard,
    ) -> Self {
        let (node, to_node) = node.into_split();
        let (ended_sender, ended) = oneshot::channel();
        let close_signal = Box::pin(async move {
            socket.close_requested().await;
            drop(socket);
        });
        let toward_node = spawn(copy(payload, to_node, ended));
        Self { ahead, node, toward_node, _ended: ended_sender, close_signal, client, is_closing: false }
    }

    /// The next bytes from the node. `None` when the node has closed.
    fn poll_node(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if !self.ahead.is_empty() {
            return Poll::Ready(Some(std::mem::take(&mut self.ahead)));
        }
        // The buffer is allocated only when bytes are available, so an idle WebSocket has no buffer.
        let mut buffer = BytesMut::new();
        loop {
            if ready!(self.node.as_ref().poll_read_ready(cx)).is_err() {
                return Poll::Ready(None);
            }
            buffer.reserve(READ_SIZE);
            match self.node.try_read_buf(&mut buffer) {
                Ok(0) => return Poll::Ready(None),
                Ok(_) => return Poll::Ready(Some(buffer.freeze())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Poll::Ready(None),
            }
        }
    }

    /// Closes the client's connection at once, where the HTTP server would linger. The first call lets the server write the
    /// remaining bytes.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, io::Error>>> {
        if !std::mem::replace(&mut self.is_closing, true) {
            self.toward_node.abort();
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        // The server holds the connection open while it polls this body, so the descriptor is valid.
        if let Some(Descriptor(client)) = self.client
            && let Err(error) = shutdown(client, Shutdown::Write)
        {
            tracing::trace!(%error, "connection already closed");
        }
        Poll::Ready(None)
    }
}

impl MessageBody for Splice {
    type Error = io::Error;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, io::Error>>> {
        let is_over = self.is_closing
            || self.close_signal.as_mut().poll(cx).is_ready()
            || Pin::new(&mut self.toward_node).poll(cx).is_ready();
        if is_over {
            return self.poll_close(cx);
        }
        match ready!(self.poll_node(cx)) {
            Some(bytes) => {
                supervision::fault!("splice to client");
                Poll::Ready(Some(Ok(bytes)))
            }
            None => self.poll_close(cx),
        }
    }
}

/// Copies the client's payload to its node until one of them closes, or the other direction ends. Then the remaining bytes
/// have [`FLUSH_TIMEOUT`]. Dropping the write half closes the node's side.
async fn copy(mut payload: web::Payload, mut node: OwnedWriteHalf, ended: oneshot::Receiver<()>) {
    let copying = async {
        while let Some(Ok(bytes)) = payload.next().await {
            supervision::fault!("splice");
            match timeout(WRITE_TIMEOUT, node.write_all(&bytes)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return,
                Err(_) => {
                    let node = node.peer_addr().ok().map(tracing::field::display);
                    return tracing::warn!(
                        node,
                        "a node does not read its WebSocket: the connection is closed"
                    );
                }
            }
        }
    };
    let timed_out = async {
        // The sender is dropped and never sends.
        _ = ended.await;
        sleep(FLUSH_TIMEOUT).await;
    };
    tokio::select! {
        () = copying => {}
        () = timed_out => {}
    }
}
