//! What of this process is supervised, and by which hooks the libraries report to it. Started by every role, through
//! [`crate::shutdown`].

use std::thread;

pub use ::supervision::fault;
#[cfg(debug_assertions)]
pub use ::supervision::fault::is_armed;
pub use ::supervision::{Part, count_panic, drain, ended, essential, failed, restart};

/// Threads of libraries, by name, and the parts that they are. Their end is reported by the panic hook, because they run none of our
/// code: without its acceptor a server looks well and takes no connections.
const FOREIGN: [(&str, &str); 1] = [("actix-server acceptor", "http acceptor")];

/// A panic has begun on this thread: reports the end of a library's thread of which a server has one. For the panic hook.
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

/// Makes a part panic, for tests.
#[cfg(debug_assertions)]
pub fn inject(part: &str) {
    tracing::warn!(part, "a fault is injected");
    ::supervision::fault::arm(part);
}
