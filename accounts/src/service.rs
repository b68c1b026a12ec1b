//! Register, login and logout, independent of HTTP.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use proto::Username;
use sessions::{SharedSessions, Token};
use tokio::time::timeout;

use crate::{
    Creation, Error, Password, User, Users,
    pool::{self, Checked, Pool, queue::Lane},
    refusal_cost::RefusalCost,
};

/// Timeout for storing a rehashed password during a login.
const REHASH_TIMEOUT: Duration = Duration::from_secs(2);

/// Number of sessions that a logout revokes concurrently.
const CONCURRENT_REVOCATIONS: usize = 16;

/// The account operations.
pub struct AccountService {
    users: Arc<dyn Users>,
    sessions: SharedSessions,
    /// Pool for password checks of logins.
    pub pool: Pool,
    /// Pool for hashes of registrations. It is separate, so that a flood of registrations does not delay logins.
    pub registrations: Pool,
    /// A hash that matches no password, with the cost of new hashes. Passwords of unknown users are compared with it.
    dummy_hash: String,
    /// The cost of refusals.
    refusal_cost: RefusalCost,
}

impl AccountService {
    /// Computes one hash of `cost`; blocks for its duration.
    pub fn new(
        users: Arc<dyn Users>,
        sessions: SharedSessions,
        pool: Pool,
        registrations: Pool,
        cost: u32,
    ) -> Result<Self, Error> {
        let secret = Token::generate()?;
        let dummy_hash = pool::hash(&Password::new(secret.reveal())?, cost)?;
        Ok(Self { users, sessions, pool, registrations, dummy_hash, refusal_cost: RefusalCost::new(cost) })
    }

    /// The hash that passwords of unknown users are compared with.
    #[cfg(test)]
    pub fn dummy_hash(&self) -> &str {
        &self.dummy_hash
    }

    /// Registers `username` for the client `from`. Refuses a name that is taken; case is ignored.
    pub async fn register(&self, username: &Username, password: Password, from: Lane) -> Result<(), Error> {
        username.check_registrable()?;
        password.check_registrable()?;
        self.users.check_collection().await?;
        if self.is_taken(username).await? {
            return Err(Error::Exists);
        }
        let hash = self.registrations.hash(from, password).await?;
        self.sessions.close_all(username).await?;
        match self.users.create(username, &hash).await? {
            Creation::Created => Ok(()),
            Creation::Exists => Err(Error::Exists),
        }
    }

    /// Opens a session of a user who has just registered, and replaces the sessions of `old`.
    pub async fn open_session(&self, username: &Username, old: &[Token]) -> Result<Token, Error> {
        Ok(self.sessions.replace(username, old).await?)
    }

    /// Whether a user has the name. The name of a damaged user stays taken.
    async fn is_taken(&self, username: &Username) -> Result<bool, Error> {
        match self.users.find(&username.key()).await {
            Err(damaged @ Error::Damaged(_)) => {
                damaged.log();
                Ok(true)
            }
            found => Ok(found?.is_some()),
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
        let hash = user.as_ref().map_or(&self.dummy_hash, |user| &user.hash).clone();
        let level = self.refusal_cost.for_hash(pool::cost_of(&hash)?, &*self.users).await;
        let checked = self.pool.verify(from, password, hash, level).await?;
        let (Some(user), Checked::Match { renewed }) = (user, checked) else {
            return Err(Error::InvalidCredentials);
        };
        if let Some(renewed) = renewed {
            self.rehash(&user, &renewed).await;
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

    /// Stores a hash with the configured cost. A failure is logged; the next login retries.
    async fn rehash(&self, user: &User, hash: &str) {
        let key = user.username.key();
        let renewing = self.users.renew(&key, &user.hash, hash);
        match timeout(REHASH_TIMEOUT, renewing).await {
            Ok(Ok(())) => metrics::counter!("godzilla_accounts_hashes_renewed_total").increment(1),
            Ok(Err(error)) => {
                tracing::warn!(%error, "rehashed password could not be stored, retrying at the next login")
            }
            Err(_) => {
                tracing::warn!("rehashed password could not be stored in time, retrying at the next login")
            }
        }
    }

    /// Revokes the sessions of `tokens`. An error of one does not prevent the revocation of the others.
    pub async fn logout(&self, tokens: impl Iterator<Item = &Token>) -> Result<(), Error> {
        let closing = tokens.map(|token| self.sessions.close(token));
        let closed: Vec<_> = stream::iter(closing).buffer_unordered(CONCURRENT_REVOCATIONS).collect().await;
        closed.into_iter().try_for_each(|closed| closed.map(drop))?;
        Ok(())
    }
}
