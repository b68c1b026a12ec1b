//! Tasks that work for one client beside its session.

use std::thread;

use socketio::{CloseReason, Socket};

/// Ends a client's connection when it is dropped by a panic.
struct Bound(Socket);

/// Spawns `task` for the client of `socket`. A panic of it ends the client's connection, because what the client waits for is
/// never answered then; other clients are not affected.
pub fn spawn(socket: &Socket, task: impl Future<Output = ()> + 'static) {
    let bound = Bound(socket.clone());
    actix_rt::spawn(async move {
        let _bound = bound;
        task.await;
    });
}

impl Drop for Bound {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.close(CloseReason::ServerError);
        }
    }
}
