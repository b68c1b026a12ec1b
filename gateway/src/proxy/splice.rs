//! A WebSocket between a client and a chat node, once both have agreed: bytes in both directions, looked at by nobody, no faster
//! than the slower side takes them. When one side ends, the other does.

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

use super::traffic;

/// How much is read at a time, in bytes.
const PIECE: usize = 16 * 1024;

/// How long a node may read nothing of what a client sends; then it is taken for dead. It would itself have given up long before.
const STALL: Duration = Duration::from_secs(30);

/// How long what a client has sent before it went may take to reach its node.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The client's connection, as [`on_connect`] leaves it with its requests.
#[derive(Debug, Clone, Copy)]
pub(super) struct Descriptor(RawFd);

/// The way from the node to the client: the body of the answer that opened the WebSocket. The HTTP server polls it while the client
/// reads, and drops it before it closes the connection.
pub(super) struct Splice {
    /// What came from the node right behind its answer.
    ahead: Bytes,
    node: OwnedReadHalf,
    /// The other direction; when it ends this one does.
    toward_node: JoinHandle<()>,
    /// Tells the other direction that this one has ended.
    _here: oneshot::Sender<()>,
    /// Resolves when the process wants to end, or the node is silent.
    called: Pin<Box<dyn Future<Output = ()>>>,
    client: Option<Descriptor>,
    /// Everything was given to the HTTP server, which writes it once this is polled again.
    ending: bool,
}

/// For `HttpServer::on_connect`: lets a client's connection be ended when its node ends the other one. Without it that takes as
/// long as the server waits for a client to go.
pub fn on_connect(io: &dyn Any, extensions: &mut Extensions) {
    if let Some(stream) = io.downcast_ref::<ActixStream>() {
        extensions.insert(Descriptor(stream.as_raw_fd()));
    }
}

impl Splice {
    /// Joins what comes from the client with the connection to its node, which has agreed. To be called on the worker of the
    /// request that `payload` belongs to. It ends when `silence` resolves.
    pub(super) fn new(
        payload: web::Payload,
        node: TcpStream,
        ahead: Bytes,
        client: Option<Descriptor>,
        mut socket: traffic::Socket,
        silence: impl Future<Output = ()> + 'static,
    ) -> Self {
        let (node, to_node) = node.into_split();
        let (here, gone) = oneshot::channel();
        let called = Box::pin(async move {
            tokio::select! {
                () = socket.called() => {}
                () = silence => {}
            }
            drop(socket);
        });
        let toward_node = spawn(carry(payload, to_node, gone));
        Self { ahead, node, toward_node, _here: here, called, client, ending: false }
    }

    /// The next bytes from the node; none when it has ended.
    fn poll_node(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if !self.ahead.is_empty() {
            return Poll::Ready(Some(std::mem::take(&mut self.ahead)));
        }
        // A buffer is taken when there is something to read: a WebSocket that is silent has none.
        let mut buffer = BytesMut::new();
        loop {
            if ready!(self.node.as_ref().poll_read_ready(cx)).is_err() {
                return Poll::Ready(None);
            }
            buffer.reserve(PIECE);
            match self.node.try_read_buf(&mut buffer) {
                Ok(0) => return Poll::Ready(None),
                Ok(_) => return Poll::Ready(Some(buffer.freeze())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Poll::Ready(None),
            }
        }
    }

    /// The end for the client too: at once, where the HTTP server would linger, but only after it has had a turn to write what
    /// it has.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, io::Error>>> {
        if !std::mem::replace(&mut self.ending, true) {
            self.toward_node.abort();
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        // The server holds the connection while it polls this.
        if let Some(Descriptor(client)) = self.client
            && let Err(error) = shutdown(client, Shutdown::Write)
        {
            tracing::trace!(%error, "connection already gone");
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
        let ends = self.ending
            || self.called.as_mut().poll(cx).is_ready()
            || Pin::new(&mut self.toward_node).poll(cx).is_ready();
        if ends {
            return self.poll_end(cx);
        }
        match ready!(self.poll_node(cx)) {
            Some(bytes) => {
                supervision::fault!("splice to client");
                Poll::Ready(Some(Ok(bytes)))
            }
            None => self.poll_end(cx),
        }
    }
}

/// Carries what the client sends to its node, until either has ended or the other direction has: then what is already here has a
/// moment. Dropping its half tells the node.
async fn carry(mut payload: web::Payload, mut node: OwnedWriteHalf, gone: oneshot::Receiver<()>) {
    let carried = async {
        while let Some(Ok(bytes)) = payload.next().await {
            supervision::fault!("splice");
            match timeout(STALL, node.write_all(&bytes)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return,
                Err(_) => return tracing::warn!("a node reads nothing of what a client sends"),
            }
        }
    };
    let given_up = async {
        // It always ends like this: nothing is ever sent.
        _ = gone.await;
        sleep(LAST_WORDS).await;
    };
    tokio::select! {
        () = carried => {}
        () = given_up => {}
    }
}
