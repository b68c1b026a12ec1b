//! The roles of the program: one file or folder for each, all on one harness. Code that concerns all roles reads the
//! table [`ROLES`].

mod accounts;
mod chat;
mod definition;
mod gateway;
mod harness;
mod new_session_gate;
mod presence;
mod presence_thread;
mod process;
mod serve;
mod set;
mod verify_identity;

use ::chat::Chat;

use self::definition::Definition;
pub use self::set::RoleSet;
#[cfg(test)]
pub use self::{chat::Config as ChatNode, gateway::Config as Gateway, serve::Config as Serve};
use crate::admin::{Probe, not_ready_unless};

/// The roles, in the order of the help. A role that runs beside others uses only services of later rows.
const ROLES: [Definition; 5] = [serve::ROLE, gateway::ROLE, accounts::ROLE, chat::ROLE, presence::ROLE];

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
