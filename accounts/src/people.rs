//! Register, login and logout without HTTP. Called by `http`; calls the stores of users and sessions, and the pool.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use proto::Username;
use sessions::{SharedSessions, Token};
use tokio::time::timeout;

use crate::{
    Creation, Error, Password, User, Users,
    level::Level,
    pool::{self, Checked, Pool, queue::Lane},
};

/// How long a login waits for its user's new hash to be stored.
const RENEWAL: Duration = Duration::from_secs(2);

/// How many sessions of one logout are closed at the same time.
const CLOSING_AT_ONCE: usize = 16;

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
    /// What a refusal costs.
    level: Level,
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
        Ok(Self { users, sessions, pool, registrations, nobody, level: Level::new(cost) })
    }

    /// What an unknown user's password is compared with.
    #[cfg(test)]
    pub fn nobody(&self) -> &str {
        &self.nobody
    }

    /// Registers `username` for the client `from`, unless it is taken in any case of its letters.
    pub async fn register(&self, username: &Username, password: Password, from: Lane) -> Result<(), Error> {
        username.check_registrable()?;
        password.check_registrable()?;
        match self.users.find(&username.key()).await {
            Ok(None) => {}
            Ok(Some(_)) => return Err(Error::Exists),
            // A user whose row is damaged keeps the name.
            Err(damaged @ Error::Damaged(_)) => {
                damaged.log();
                return Err(Error::Exists);
            }
            Err(error) => return Err(error),
        }
        let hash = self.registrations.hash(from, password).await?;
        self.sessions.close_all(username).await?;
        match self.users.create(username, &hash).await? {
            Creation::Created => Ok(()),
            Creation::Exists => Err(Error::Exists),
        }
    }

    /// Opens a new session for the client `from` and replaces the sessions of `old`. Invalid names and passwords give the same error as
    /// wrong ones. The time of a refusal does not depend on whether the user exists, and a damaged row or hash gives the same refusal; it
    /// is logged.
    pub async fn login(
        &self,
        username: &str,
        password: &str,
        old: &[Token],
        from: Lane,
    ) -> Result<Token, Error> {
        let username: Username = username.parse().map_err(|_| Error::InvalidCredentials)?;
        let password = Password::new(password).map_err(|_| Error::InvalidCredentials)?;
        let user = self.whole(self.users.find(&username.key()).await)?;
        let hash = user.as_ref().map_or(&self.nobody, |user| &user.hash).clone();
        let level = self.level.with(pool::cost_of(&hash)?, &*self.users).await;
        let checked = self.pool.verify(from, password, hash, level).await?;
        let (Some(user), Checked::Match { renewed }) = (user, checked) else {
            return Err(Error::InvalidCredentials);
        };
        if let Some(renewed) = renewed {
            self.renew(&user, &renewed).await;
        }
        Ok(self.sessions.replace(&user.username, old).await?)
    }

    /// The user, unless the row or the hash is damaged.
    fn whole(&self, found: Result<Option<User>, Error>) -> Result<Option<User>, Error> {
        let checked = found.and_then(|user| {
            if let Some(user) = &user {
                pool::cost_of(&user.hash)?;
            }
            Ok(user)
        });
        match checked {
            Err(damaged @ Error::Damaged(_)) => {
                damaged.log();
                metrics::counter!("godzilla_accounts_damaged_users_total").increment(1);
                Ok(None)
            }
            other => other,
        }
    }

    /// Stores a hash of the present cost for a user who has one of another cost. The login goes on if that fails: the next
    /// one tries again.
    async fn renew(&self, user: &User, hash: &str) {
        let key = user.username.key();
        let renewing = self.users.renew(&key, &user.hash, hash);
        match timeout(RENEWAL, renewing).await {
            Ok(Ok(())) => metrics::counter!("godzilla_accounts_hashes_renewed_total").increment(1),
            Ok(Err(error)) => tracing::warn!(%error, "a password's hash could not be renewed"),
            Err(_) => tracing::warn!("a password's hash could not be renewed in time"),
        }
    }

    /// Closes the sessions of these tokens, as far as there are any. After an error of one the others are closed all the same.
    pub async fn logout(&self, tokens: impl Iterator<Item = &Token>) -> Result<(), Error> {
        let closing = tokens.map(|token| self.sessions.close(token));
        let closed: Vec<_> = stream::iter(closing).buffer_unordered(CLOSING_AT_ONCE).collect().await;
        closed.into_iter().try_for_each(|closed| closed.map(drop))?;
        Ok(())
    }
}
