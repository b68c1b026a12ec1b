//! Authenticates a request: finds the user of the open session whose token the request contains. Called by the middleware
//! after its checks.

use std::time::{Duration, Instant};

use actix_web::{
    HttpMessage,
    dev::ServiceRequest,
    http::header::{self, HeaderMap, HeaderValue},
};
use proto::Identity;
use sessions::{Claim, PresentedTokens, Token};
use tokio::time::timeout;

use crate::{
    Gateway,
    client::Client,
    error::Error,
    middleware::Admitted,
    origin::Source,
    routes::{Access, Upstream},
    session_id::names_session,
};

/// The timeout of the session store. A slower store counts as unavailable: no request is authenticated without its
/// response.
const SESSION_DEADLINE: Duration = Duration::from_millis(500);

/// The tokens in these headers.
fn presented_tokens(headers: &HeaderMap) -> PresentedTokens {
    let values = |name| headers.get_all(name).map(HeaderValue::as_bytes);
    PresentedTokens::read(values(header::COOKIE), values(header::AUTHORIZATION))
}

impl Gateway {
    /// Authenticates the caller and puts the identity into the request's extensions, if the route needs one.
    ///
    /// Credentials without an open session are refused with 401, except on the socket route. There the request is
    /// anonymous, and chat responds to CONNECT with CONNECT_ERROR: stock clients retry a handshake that fails with an HTTP
    /// status indefinitely, and stop after a CONNECT_ERROR.
    pub(crate) async fn identify(
        &self,
        request: &ServiceRequest,
        Admitted { route, source, client, .. }: &Admitted,
    ) -> Result<(), Error> {
        if route.access == Access::Public {
            return Ok(());
        }
        let may_be_anonymous = route.access == Access::UserOrListed;
        let names_session = names_session(request.query_string());
        let presented = presented_tokens(request.headers());
        let may_authenticate_later =
            *source == Source::Listed || names_session || self.config.allow_token_clients;
        let identity = match presented.claim() {
            Claim::Nothing if may_be_anonymous && may_authenticate_later => {
                return self.admit_anonymous(request, *client);
            }
            Claim::Nothing => return Err(Error::Unauthorized),
            Claim::Malformed => Err(Error::Unauthorized),
            Claim::TooMany => Err(Error::Ambiguous),
            Claim::Tokens { candidates, others } => {
                let is_within = route.upstream == Upstream::Sockets && names_session;
                self.only_session_of(candidates, &others, is_within).await
            }
        };
        if matches!(identity, Err(Error::Ambiguous)) {
            self.warnings.ambiguous_credentials();
        }
        match identity {
            Ok(identity) => drop(request.extensions_mut().insert(identity)),
            Err(Error::Unauthorized | Error::Ambiguous) if may_be_anonymous => {
                self.admit_anonymous(request, *client)?
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Counts an anonymous handshake of the client's address. Requests within an Engine.IO session are not counted.
    fn admit_anonymous(&self, request: &ServiceRequest, client: Client) -> Result<(), Error> {
        if names_session(request.query_string()) {
            return Ok(());
        }
        self.limits.admit_anonymous(client)
    }

    /// The identity of the only open session among `candidates`. None of `others` may belong to an open session.
    async fn only_session_of(
        &self,
        candidates: &[Token],
        others: &[&Token],
        is_within: bool,
    ) -> Result<Identity, Error> {
        let mut only = None;
        for token in candidates {
            let found = self.open_session_of(token, is_within).await?;
            if only.is_some() && found.is_some() {
                return Err(Error::Ambiguous);
            }
            only = only.or(found);
        }
        let only = only.ok_or(Error::Unauthorized)?;
        for token in others {
            if self.open_session_of(token, is_within).await?.is_some() {
                return Err(Error::Ambiguous);
            }
        }
        Ok(only)
    }

    /// As [`Self::session_of`]. `None` for a token without an open session.
    async fn open_session_of(&self, token: &Token, is_within: bool) -> Result<Option<Identity>, Error> {
        match self.session_of(token, is_within).await {
            Ok(identity) => Ok(Some(identity)),
            Err(Error::Unauthorized) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The identity of a token. When the store fails or times out, only requests within an Engine.IO session (`is_within`)
    /// pass, on the cached identity, during its grace period.
    async fn session_of(&self, token: &Token, is_within: bool) -> Result<Identity, Error> {
        let (id, now) = (token.id(), Instant::now());
        if let Some(identity) = self.session_cache.fresh(&id, now).filter(|_| is_within) {
            return Ok(identity);
        }
        let error = match timeout(SESSION_DEADLINE, self.sessions.find(&id)).await {
            Ok(Ok(username)) => {
                let identity = username.map(|username| Identity { username, session: id.to_string() });
                self.session_cache.record(&id, identity.as_ref(), now);
                return identity.ok_or(Error::Unauthorized);
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no response within {SESSION_DEADLINE:?}"),
        };
        tracing::warn!(%error, "session store failed: only requests within cached sessions are accepted");
        self.session_cache.in_grace(&id, now).filter(|_| is_within).ok_or(Error::SessionStore)
    }
}
