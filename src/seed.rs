//! The tool `seed`: writes sample users and messages to an empty store. It never deletes or changes data.

use accounts::{Accounts, Users};
use actix_web::rt::System;
use chat::Sample;
use proto::Username;

use crate::{config::Seed, error::Error, output, storage::sqlite::Stores, telemetry};

/// The sample users.
const USERS: [&str; 3] = ["alice", "bob", "carol"];

/// The password of all sample users. They are for trying the program only.
const PASSWORD: &str = "correct horse";

/// Room, author and text of each message.
const MESSAGES: [(&str, &str, &str); 6] = [
    ("lobby", "alice", "Good morning! Is this thing on?"),
    ("lobby", "bob", "It is. Messages here survive a restart."),
    ("lobby", "carol", "I was away for an hour and still read everything."),
    ("lobby", "alice", "Tea is discussed in its own room."),
    ("tea", "carol", "Three minutes, not four."),
    ("tea", "bob", "Four."),
];

/// Fills the store. Refuses a store that is not empty.
pub fn run(config: Seed) -> Result<(), Error> {
    telemetry::logs(&config.telemetry)?;
    System::new().block_on(fill(config))
}

async fn fill(config: Seed) -> Result<(), Error> {
    let stores = Stores::open(config.store.directory())?;
    if !stores.users.is_empty().await.map_err(failed)? {
        return Err(Error::Refused("the store holds users already, so nothing was changed"));
    }
    if !stores.chat.history().is_empty().await.map_err(failed)? {
        return Err(Error::Refused("the store holds messages already, so nothing was changed"));
    }
    let accounts = Accounts::new(stores.users.clone(), stores.sessions.clone(), &config.accounts);
    let accounts = accounts.map_err(failed)?;
    for user in USERS {
        accounts.register(&username(user), PASSWORD).await.map_err(failed)?;
    }
    chat::seed(&stores.chat, samples()).await.map_err(failed)?;
    stores.close();
    let (users, messages) = (USERS.join(", "), MESSAGES.len());
    let stored = format!("Stored {users}, each with the password '{PASSWORD}', and {messages} messages.\n");
    if let Err(error) = output::show(&stored) {
        tracing::warn!(%error, "the samples are stored, but standard output cannot be written");
    }
    Ok(())
}

fn samples() -> Vec<Sample> {
    let sample = |(room, author, text): (&str, &str, &str)| Sample {
        room: room.parse().expect("the sample rooms have valid names"),
        author: username(author),
        text: text.to_owned(),
    };
    MESSAGES.map(sample).into()
}

fn username(name: &str) -> Username {
    name.parse().expect("the sample users have valid names")
}

fn failed(error: impl ToString) -> Error {
    Error::part("seed", error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authors_of_the_samples_are_registered() {
        for sample in samples() {
            assert!(USERS.contains(&sample.author.as_str()), "{}", sample.author);
        }
    }
}
