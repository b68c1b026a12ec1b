//! The roles of the program: one file per role, all on one harness. [`run`] runs any set of roles in one process.

#[cfg(feature = "mongodb")]
pub mod accounts;
#[cfg(feature = "mongodb")]
pub mod chat;
pub mod gateway;
mod harness;
mod new_session_gate;
pub mod presence;
mod presence_thread;
mod process;
#[cfg(feature = "mongodb")]
mod role_reporter;
#[cfg(feature = "mongodb")]
pub mod run;
pub mod serve;
mod verify_identity;

use ::{accounts::Accounts, chat::Chat};

use crate::admin::{Probe, not_ready_unless};

/// Probes whether the parts of the chat answer.
fn chat_probe(chat: &Chat) -> Probe {
    let chat = chat.clone();
    Box::new(move || {
        let chat = chat.clone();
        Box::pin(async move { not_ready_unless(chat.is_ready().await) })
    })
}

/// Probes whether the chat receives the online users from presence. Everything else works without them.
fn presence_probe(chat: &Chat) -> Probe {
    let chat = chat.clone();
    Box::new(move || {
        let degradation = chat.presence_degradation();
        Box::pin(async { degradation })
    })
}

/// Probes whether the threads that verify and hash passwords take jobs.
fn password_probe(accounts: &Accounts) -> Probe {
    let accounts = accounts.clone();
    Box::new(move || {
        let stalled = accounts.is_stalled().then(|| "has not taken a waiting job for 10 s".to_owned());
        Box::pin(async { stalled })
    })
}
