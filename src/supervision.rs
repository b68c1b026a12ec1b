//! Supervision of this process, and the hooks by which the libraries report to it. Started by every role, through
//! [`crate::shutdown`].

use std::thread;

pub use ::supervision::fault;
#[cfg(debug_assertions)]
pub use ::supervision::fault::is_armed;
pub use ::supervision::{Part, count_panic, drain, ended, essential, failed, report_exit, restart};

/// Names of library threads, and the parts that they run. The panic hook reports their end, because they run no code of
/// this program. Without its acceptor a server answers health checks and accepts no connections.
const FOREIGN: [(&str, &str); 1] = [("actix-server acceptor", "http acceptor")];

/// Reports the end of a library thread that exists once per server. Called by the panic hook when this thread panics.
pub fn note_foreign_thread() {
    let thread = thread::current();
    let part = FOREIGN.iter().find(|(name, _)| thread.name() == Some(name));
    if let Some((_, part)) = part {
        drop(Part::new(*part));
    }
}

/// Starts supervision.
pub fn start() {
    embedded::on_failure(|thread| drop(Part::new(thread.to_owned())));
    #[cfg(debug_assertions)]
    {
        embedded::set_fault_hook(::supervision::fault::hit);
        socketio::fault::set_hook(::supervision::fault::hit);
    }
    ::supervision::start();
}

/// Makes a part panic. For tests.
#[cfg(debug_assertions)]
pub fn inject(part: &str) {
    tracing::warn!(part, "a fault is injected");
    ::supervision::fault::arm(part);
}
