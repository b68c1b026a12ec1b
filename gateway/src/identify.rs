//! Who sends a request: the user of the open session whose token the request carries. Called by the door after its checks.

use std::time::{Duration, Instant};

use actix_web::{
    HttpMessage,
    dev::ServiceRequest,
    http::header::{self, HeaderMap, HeaderValue},
};
use proto::Identity;
use sessions::{Claim, PresentedTokens, SessionId, Token};
use tokio::time::timeout;

use crate::{
    Gateway,
    client::Client,
    error::Error,
    hangup::Hangup,
    limit,
    origin::Source,
    routes::{Route, Upstream, Who},
};

/// How long the session store may take. Longer is an outage: no request passes on a guess.
const SESSION_DEADLINE: Duration = Duration::from_millis(500);

/// The tokens in these headers.
fn shown(headers: &HeaderMap) -> PresentedTokens {
    let values = |name| headers.get_all(name).map(HeaderValue::as_bytes);
    PresentedTokens::read(values(header::COOKIE), values(header::AUTHORIZATION))
}

impl Gateway {
    /// Finds the caller and puts the identity into the request's extensions, where the route needs one.
    ///
    /// Credentials that name no open session are refused with 401, except on the socket route. There the request passes
    /// without an identity, and chat answers CONNECT with CONNECT_ERROR: stock clients repeat a handshake that fails with an
    /// HTTP status for ever, and stop at a CONNECT_ERROR.
    pub(crate) async fn identify(
        &self,
        request: &ServiceRequest,
        route: &Route,
        source: Source,
    ) -> Result<(), Error> {
        if route.who == Who::Anyone {
            return Ok(());
        }
        let passes_unnamed = route.who == Who::UserOrListed;
        let names_session = names_session(request.query_string());
        let shown = shown(request.headers());
        let may_name_later = source == Source::Listed || names_session || self.config.allow_token_clients;
        let identity = match shown.claim() {
            Claim::Nothing if passes_unnamed && may_name_later => return self.admit_unnamed(request),
            Claim::Nothing => return Err(Error::Unauthorized),
            Claim::Malformed => Err(Error::Unauthorized),
            Claim::Ambiguous => Err(Error::Ambiguous),
            Claim::One(token) => self.session_of(token, Use::of(route, names_session)).await,
            Claim::Explicit { bearer, others } => {
                self.session_of_bearer(bearer, &others, Use::of(route, names_session)).await
            }
        };
        match identity {
            Ok(identity) => drop(request.extensions_mut().insert(identity)),
            Err(Error::Unauthorized | Error::Ambiguous) if passes_unnamed => self.admit_unnamed(request)?,
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Counts a handshake that names no user, for the client's address. Requests within an Engine.IO session are not counted.
    fn admit_unnamed(&self, request: &ServiceRequest) -> Result<(), Error> {
        if names_session(request.query_string()) {
            return Ok(());
        }
        limit::admit_unnamed(&self.unnamed, request.extensions().get::<Client>().copied())
    }

    /// The identity of a bearer token beside cookies with other tokens, none of which may belong to an open session.
    async fn session_of_bearer(
        &self,
        bearer: &Token,
        others: &[&Token],
        usage: Use,
    ) -> Result<Identity, Error> {
        let identity = self.session_of(bearer, usage).await?;
        for other in others {
            match self.session_of(other, usage).await {
                Ok(_) => return Err(Error::Ambiguous),
                Err(Error::Unauthorized) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(identity)
    }

    /// The identity behind a token. No request passes while the store fails or is late, except requests within an Engine.IO
    /// session, for a while.
    async fn session_of(&self, token: &Token, usage: Use) -> Result<Identity, Error> {
        let (id, now, is_within) = (token.id(), Instant::now(), usage == Use::Within);
        let found = async {
            match usage {
                Use::Request => self.sessions.find(token).await,
                Use::Handshake | Use::Within => self.sessions.find_for_socket(token).await,
            }
        };
        if let Some(identity) = self.known.fresh(&id, now).filter(|_| is_within) {
            return Ok(identity);
        }
        let error = match timeout(SESSION_DEADLINE, found).await {
            Ok(Ok(session)) => {
                let identity = session
                    .map(|session| Identity { username: session.username, session: session.id.to_string() });
                self.known.note(&id, identity.as_ref(), now);
                return identity.ok_or(Error::Unauthorized);
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {SESSION_DEADLINE:?}"),
        };
        tracing::warn!(%error, "session store failed");
        self.known.in_grace(&id, now).filter(|_| is_within).ok_or(Error::Sessions)
    }
}

impl Gateway {
    /// The answer to a login is ready: the sessions that `opened` replaces are superseded, unless the client is gone. Then they
    /// stay as they are until the first use of the new session.
    pub(crate) async fn supersede(&self, opened: &HeaderValue, hangup: Option<&Hangup>) {
        let opened: Option<SessionId> = opened.to_str().ok().and_then(|id| id.parse().ok());
        let Some(opened) = opened.filter(|_| !hangup.is_some_and(Hangup::is_noted)) else { return };
        let error = match timeout(SESSION_DEADLINE, self.sessions.supersede(&opened)).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {SESSION_DEADLINE:?}"),
        };
        tracing::warn!(%error, "the sessions that a login replaces stay until the new one is used");
    }
}

/// What a token is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    /// A request of HTTP.
    Request,
    /// The handshake of a socket.
    Handshake,
    /// A request within an open Engine.IO session.
    Within,
}

impl Use {
    fn of(route: &Route, names_session: bool) -> Self {
        match route.upstream {
            Upstream::Sockets if names_session => Self::Within,
            Upstream::Sockets => Self::Handshake,
            _ => Self::Request,
        }
    }
}

/// Whether the request is part of an Engine.IO session, whose id nobody can guess: some clients show their credentials with
/// the request that opens it and never again.
pub(crate) fn names_session(query: &str) -> bool {
    query.split('&').any(|pair| pair.strip_prefix("sid=").is_some_and(|sid| !sid.is_empty()))
}
