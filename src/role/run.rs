//! `godzilla run`: any set of roles in one process. The roles are those of the other commands: they use the same stores,
//! and the same protocols with each other, and with roles of other processes.

use crate::{
    admin::Opening,
    config,
    error::Error,
    listener::reachable,
    role::{
        accounts::Accounts,
        chat::Chat,
        gateway::Gateway,
        harness::{self, Role, Shared},
        presence::Presence,
    },
};

/// Runs the roles until a signal requests the end, then drains them.
pub fn run(config: config::Run) -> Result<(), Error> {
    let shared = Shared { admin: config.admin.clone(), telemetry: config.telemetry.clone(), named: true };
    harness::run(shared, async |opening| open(config, opening).await)
}

/// Opens the roles. A role that another one of this process uses is opened first, because its port can be chosen by the system.
async fn open(config: config::Run, opening: Opening) -> Result<Vec<Box<dyn Role>>, Error> {
    let mut roles: Vec<Box<dyn Role>> = Vec::new();
    let (mut gateway, mut chat) = (config.gateway, config.chat);
    if let Some(presence) = config.presence {
        let presence = Presence::open(presence, "--presence-listen")?;
        if let Some(chat) = &mut chat {
            chat.chat.presence_url = format!("http://{}", reachable(presence.address));
        }
        roles.push(Box::new(presence));
    }
    if let Some(accounts) = config.accounts {
        let accounts = Accounts::open(accounts, "--accounts-listen", &opening.of("accounts")).await?;
        if let Some(gateway) = &mut gateway {
            let url = format!("http://{}", reachable(accounts.address)).parse();
            gateway.accounts_url = Some(url.map_err(|error| Error::part("accounts", error))?);
        }
        roles.push(Box::new(accounts));
    }
    let has_chat = chat.is_some();
    if let Some(chat) = chat {
        roles.push(Box::new(Chat::open(chat, "--chat-listen", &opening.of("chat")).await?));
    }
    if let Some(gateway) = gateway {
        roles.push(Box::new(Gateway::open(gateway, has_chat)?));
    }
    Ok(roles)
}
