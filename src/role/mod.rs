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

use self::definition::Definition;
pub use self::set::RoleSet;
#[cfg(test)]
pub use self::{chat::Config as ChatNode, gateway::Config as Gateway, serve::Config as Serve};

/// The roles, in the order of the help. A role that runs beside others uses only services of later rows.
const ROLES: [Definition; 5] = [serve::ROLE, gateway::ROLE, accounts::ROLE, chat::ROLE, presence::ROLE];
