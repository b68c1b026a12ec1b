//! Register, login and logout without HTTP. Called by `http`; calls the stores of users and sessions, and the pool.

use std::sync::Arc;

use proto::Username;
use sessions::{SharedSessions, Token};

use crate::{
    Creation, Error, Password, Users,
    pool::{self, Pool},
};

/// Whoever may log in.
pub struct People {
    users: Arc<dyn Users>,
    sessions: SharedSessions,
    /// Where passwords are hashed.
    /// Checks the passwords of those who log in.
    pub pool: Pool,
    /// Hashes those of new users, apart from the logins: whoever registers names by the thousand locks nobody out.
    pub registrations: Pool,
    /// A hash that no login ever matches, as dear as a new user's.
    nobody: String,
}

impl People {
    /// Computes one hash of `cost`, which takes its time.
    pub fn new(
        users: Arc<dyn Users>,
        sessions: SharedSessions,
        pool: Pool,
        registrations: Pool,
        cost: u32,
    ) -> Result<Self, Error> {
        let secret = Token::generate()?;
        let nobody = pool::hash(&Password::new(secret.reveal())?, cost)?;
        Ok(Self { users, sessions, pool, registrations, nobody })
    }

    /// What an unknown user's password is compared with.
    #[cfg(test)]
    pub fn nobody(&self) -> &str {
        &self.nobody
    }

    /// Registers `username`, unless it is taken in any case of its letters.
    pub async fn register(&self, username: &Username, password: Password) -> Result<(), Error> {
        username.check_registrable()?;
        password.check_registrable()?;
        if self.users.find(&username.key()).await?.is_some() {
            return Err(Error::Exists);
        }
        let hash = self.registrations.hash(password).await?;
        match self.users.create(username, &hash).await? {
            Creation::Created => Ok(()),
            Creation::Exists => Err(Error::Exists),
        }
    }

    /// Opens a session, always a new one, in place of `old`. A name that cannot be a user's and a password that cannot
    /// be one are told from each other by nobody, and a user that does not exist takes as long as one that does.
    pub async fn login(&self, username: &str, password: &str, old: Option<Token>) -> Result<Token, Error> {
        let username: Username = username.parse().map_err(|_| Error::InvalidCredentials)?;
        let password = Password::new(password).map_err(|_| Error::InvalidCredentials)?;
        let user = self.users.find(&username.key()).await?;
        let hash = user.as_ref().map_or(&self.nobody, |user| &user.hash).clone();
        let matches = self.pool.verify(password, hash).await?;
        let user = user.filter(|_| matches).ok_or(Error::InvalidCredentials)?;
        if let Some(old) = old {
            self.sessions.close(&old).await?;
        }
        Ok(self.sessions.open(&user.username).await?)
    }

    /// Closes the sessions of these tokens, as far as there are any.
    pub async fn logout(&self, tokens: impl Iterator<Item = Token>) -> Result<(), Error> {
        for token in tokens {
            self.sessions.close(&token).await?;
        }
        Ok(())
    }
}
