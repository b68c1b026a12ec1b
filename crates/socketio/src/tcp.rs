//! The TCP connection under a transport. The HTTP server owns it; this is the way to set its options when it is accepted
//! and to cut it when nobody polls its transport any more.

use std::{
    any::Any,
    os::fd::{AsRawFd as _, RawFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use actix_web::{dev::Extensions, rt::net::TcpStream};
use nix::sys::socket::{Shutdown, shutdown};
use socket2::SockRef;

/// Bytes the kernel may hold toward one client (it doubles the figure). What waits beyond that waits in the send_queue, where it
/// is permit.
const SEND_BUFFER: usize = 32 * 1024;

/// How long sent bytes may stay unacknowledged, or the client's window closed, before the kernel gives up.
const UNACKNOWLEDGED: Duration = Duration::from_secs(8);

/// The descriptor of a connection, as [`on_connect`] leaves it with the request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Descriptor(RawFd);

/// A connection that carries a session. The response body that writes to it releases it when it is dropped, which the
/// HTTP server does before it closes the socket; so nobody touches a descriptor that is another's by now.
#[derive(Debug, Default)]
pub(crate) struct TcpHandle(Mutex<Option<RawFd>>);

impl TcpHandle {
    /// The connection of a request; without [`on_connect`] there is none to touch.
    pub(crate) fn new(descriptor: Option<Descriptor>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(descriptor.map(|Descriptor(fd)| fd))))
    }

    /// Ends the connection in both directions.
    pub(crate) fn abort(&self) {
        self.shut(Shutdown::Both);
    }

    /// Ends the connection toward the client, after what was written.
    pub(crate) fn shutdown_write(&self) {
        self.shut(Shutdown::Write);
    }

    /// The connection is about to be closed.
    pub(crate) fn release(&self) {
        self.lock().take();
    }

    fn shut(&self, how: Shutdown) {
        let fd = self.lock();
        if let Some(fd) = *fd
            && let Err(error) = shutdown(fd, how)
        {
            tracing::trace!(%error, "connection already gone");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<RawFd>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// For `HttpServer::on_connect`: bounds what the kernel queues toward a client, and lets a connection be cut whose client does
/// not read. Without it such a connection lasts until its heartbeat fails.
pub fn on_connect(io: &dyn Any, extensions: &mut Extensions) {
    let Some(stream) = io.downcast_ref::<TcpStream>() else { return };
    let socket = SockRef::from(stream);
    if let Err(error) = socket.set_send_buffer_size(SEND_BUFFER) {
        tracing::debug!(%error, "send buffer not set");
    }
    if let Err(error) = socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED)) {
        tracing::debug!(%error, "user timeout not set");
    }
    extensions.insert(Descriptor(stream.as_raw_fd()));
}
