//! Supervision of this process, and the hooks by which the libraries report to it. Started by every role, through
//! [`crate::shutdown`].

pub use ::supervision::fault;
#[cfg(debug_assertions)]
pub use ::supervision::fault::is_armed;
pub use ::supervision::{Part, count_panic, drain, ended, essential, failed, restart};

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
