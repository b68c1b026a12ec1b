//! Register, login and logout, independent of HTTP.

use std::{net::IpAddr, sync::Arc, time::Instant};

use futures_util::{StreamExt, stream};
use proto::Username;
use sessions::{SharedSessions, Token};

use crate::{
    Creation, Error, Password, Users,
    hasher::{self, Checked, Hasher},
    login_throttle::LoginThrottle,
};

/// Number of sessions that a logout closes concurrently.
const CONCURRENT_CLOSINGS: usize = 16;

/// The account operations.
pub struct AccountService {
    users: Arc<dyn Users>,
    sessions: SharedSessions,
    /// Checks the passwords of logins.
    pub logins: Hasher,
    /// Hashes the passwords of registrations. It is separate, so that a flood of registrations does not delay logins.
    pub registrations: Hasher,
    throttle: LoginThrottle,
    /// A hash that matches no password, with the cost of new hashes. Passwords of unknown users are compared with it.
    dummy_hash: String,
}

impl AccountService {
    /// Computes one hash with `cost`; blocks for its duration. `hasher` is called once for logins and once for registrations.
    pub fn new(
        users: Arc<dyn Users>,
        sessions: SharedSessions,
        hasher: impl Fn() -> Hasher,
        cost: u32,
    ) -> Result<Self, Error> {
        let secret = Token::generate()?;
        let dummy_hash = hasher::hash(&Password::new(secret.reveal())?, cost)?;
        let throttle = LoginThrottle::default();
        Ok(Self { users, sessions, logins: hasher(), registrations: hasher(), throttle, dummy_hash })
    }

    /// Registers `username`. Refuses a name that is taken; case is ignored.
    pub async fn register(&self, username: &Username, password: Password) -> Result<(), Error> {
        username.check_registrable()?;
        password.check_registrable()?;
        // The insert decides. A taken name is refused here without the cost of a hash.
        if self.users.find(&username.key()).await?.is_some() {
            return Err(Error::Exists);
        }
        let hash = self.registrations.hash(password).await?;
        match self.users.create(username, &hash).await? {
            Creation::Created => Ok(()),
            Creation::Exists => Err(Error::Exists),
        }
    }

    /// Opens a session of a user who has just registered, and replaces the sessions of `old`.
    pub async fn open_session(&self, username: &Username, old: &[Token]) -> Result<Token, Error> {
        Ok(self.sessions.open(username, old).await?)
    }

    /// Opens a new session for a login from `client`, which replaces the sessions of `old`. Invalid names and passwords give the same error
    /// as wrong ones, and an unknown user costs as much as a wrong password.
    pub async fn login(
        &self,
        username: &str,
        password: &str,
        old: &[Token],
        client: Option<IpAddr>,
    ) -> Result<Token, Error> {
        let username: Username = username.parse().map_err(|_| Error::InvalidCredentials)?;
        let password = Password::new(password).map_err(|_| Error::InvalidCredentials)?;
        if let Some(wait) = self.throttle.wait(&username, client, Instant::now()) {
            return Err(Error::TooMany(wait.as_secs() + 1));
        }
        let user = self.users.find(&username.key()).await?;
        let hash = user.as_ref().map_or(&self.dummy_hash, |user| &user.hash).clone();
        let checked = self.logins.verify(password, hash).await?;
        let (Some(user), Checked::Match { renewed }) = (user, checked) else {
            self.throttle.record_failure(&username, client, Instant::now());
            return Err(Error::InvalidCredentials);
        };
        if let Some(renewed) = renewed
            && let Err(error) = self.users.renew(&username.key(), &user.hash, &renewed).await
        {
            tracing::warn!(%error, "a hash of the configured cost is not stored, retrying at the next login");
        }
        Ok(self.sessions.open(&user.username, old).await?)
    }

    /// Closes the sessions of `tokens`. An error of one does not prevent the others from being closed.
    pub async fn logout(&self, tokens: impl Iterator<Item = &Token>) -> Result<(), Error> {
        let closing = tokens.map(async |token| self.sessions.close(&token.id()).await);
        let closed: Vec<_> = stream::iter(closing).buffer_unordered(CONCURRENT_CLOSINGS).collect().await;
        Ok(closed.into_iter().collect::<Result<(), _>>()?)
    }
}
