//! The TCP connection under a transport. The HTTP server owns the socket. This module sets its options on
//! accept, and aborts a connection whose transport is no longer polled.

use std::{
    any::Any,
    os::fd::{AsRawFd as _, RawFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use actix_web::{dev::Extensions, rt::net::TcpStream};
use nix::sys::socket::{Shutdown, shutdown};
use socket2::SockRef;

/// Bytes that the kernel buffers toward one client (it doubles the figure). Everything beyond waits in the
/// send queue, where it is counted.
const SEND_BUFFER: usize = 32 * 1024;

/// How long sent data may stay unacknowledged, or the client's window closed, before the kernel aborts the
/// connection.
const UNACKNOWLEDGED: Duration = Duration::from_secs(8);

/// The file descriptor of a connection, which [`on_connect`] attaches to its requests.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Descriptor(RawFd);

/// The connection of a session. The response body that writes to it releases it on drop, which happens before
/// the HTTP server closes the socket. So a descriptor that the kernel has reused is never touched.
#[derive(Debug, Default)]
pub(crate) struct TcpHandle(Mutex<Option<RawFd>>);

impl TcpHandle {
    /// The connection of a request. Without [`on_connect`] there is no descriptor, and the methods have no
    /// effect.
    pub(crate) fn new(descriptor: Option<Descriptor>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(descriptor.map(|Descriptor(fd)| fd))))
    }

    /// Shuts the connection down in both directions.
    pub(crate) fn abort(&self) {
        self.shut(Shutdown::Both);
    }

    /// Shuts the connection down toward the client, after the data that was written.
    pub(crate) fn shutdown_write(&self) {
        self.shut(Shutdown::Write);
    }

    /// Called before the connection is closed: later calls have no effect.
    pub(crate) fn release(&self) {
        self.lock().take();
    }

    fn shut(&self, how: Shutdown) {
        let fd = self.lock();
        if let Some(fd) = *fd
            && let Err(error) = shutdown(fd, how)
        {
            tracing::trace!(%error, "connection already closed");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<RawFd>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// For `HttpServer::on_connect`: bounds what the kernel queues toward a client, and allows the server to
/// abort the connection of a client that does not read. Without it such a connection stays open until its
/// heartbeat fails.
pub fn on_connect(io: &dyn Any, extensions: &mut Extensions) {
    let Some(stream) = io.downcast_ref::<TcpStream>() else { return };
    let socket = SockRef::from(stream);
    if let Err(error) = socket.set_send_buffer_size(SEND_BUFFER) {
        tracing::debug!(%error, "cannot set the send buffer size");
    }
    if let Err(error) = socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED)) {
        tracing::debug!(%error, "cannot set the TCP user timeout");
    }
    extensions.insert(Descriptor(stream.as_raw_fd()));
}
