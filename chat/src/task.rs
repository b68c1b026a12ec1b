//! Tasks that run for one client outside its session actor.

use std::thread;

use socketio::{CloseReason, Socket};

/// Closes a client's connection if it is dropped by a panic.
struct CloseOnPanic(Socket);

/// Spawns `future` for the client of `socket`. If it panics, the client's connection is closed, because the acknowledgements
/// that the client waits for are then never sent. Other clients are not affected.
pub fn spawn(socket: &Socket, future: impl Future<Output = ()> + 'static) {
    let guard = CloseOnPanic(socket.clone());
    actix_rt::spawn(async move {
        let _guard = guard;
        future.await;
    });
}

impl Drop for CloseOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.close(CloseReason::ServerError);
        }
    }
}
