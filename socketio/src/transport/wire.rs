//! The TCP connection under a transport. The HTTP server owns it; this is the way to set its options when it is accepted
//! and to cut it when nobody polls its transport any more.

use std::{any::Any, os::fd::AsRawFd as _, os::fd::RawFd, time::Duration};

use actix_web::{dev::Extensions, rt::net::TcpStream};
use nix::sys::socket::{Shutdown, shutdown};
use socket2::SockRef;

/// Bytes the kernel may hold toward one client (it doubles the figure). What waits beyond that waits in the outbox, where it
/// is counted.
const SEND_BUFFER: usize = 32 * 1024;

/// How long sent bytes may stay unacknowledged, or the client's window closed, before the kernel gives up.
const UNACKNOWLEDGED: Duration = Duration::from_secs(8);

/// A connection, by its descriptor. It is valid while the response body that holds it lives: the server drops the body
/// before it closes the socket, on the same thread.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wire(RawFd);

impl Wire {
    /// Ends the connection in both directions.
    pub(crate) fn cut(&self) {
        self.shut(Shutdown::Both);
    }

    /// Ends the connection toward the client, after what was written.
    pub(crate) fn finish_writing(&self) {
        self.shut(Shutdown::Write);
    }

    fn shut(&self, how: Shutdown) {
        if let Err(error) = shutdown(self.0, how) {
            tracing::trace!(%error, "connection already gone");
        }
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
    extensions.insert(Wire(stream.as_raw_fd()));
}
