//! What every service of a process needs and no library has: the wait between two attempts ([`Backoff`]), and the read of a
//! body of bounded size and time ([`body`]).

mod backoff;
pub mod body;

pub use backoff::Backoff;
