//! What the program can be while it runs: one file per role, each with one `run`.

pub mod presence;
mod presence_thread;
pub mod serve;
