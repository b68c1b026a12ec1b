//! The route table: all HTTP routes of Godzilla, on one screen. The middleware looks up every request here before any
//! service runs. Other paths do not exist.

use std::borrow::Cow;

use crate::{error::Error, pages};

/// A path and the requests that it accepts.
#[derive(Debug)]
pub(crate) struct Route {
    /// The methods, as in the `Allow` header.
    pub(crate) allow: &'static str,
    /// The path. A segment in braces matches any one segment.
    pub(crate) path: &'static str,
    /// The service that responds; also the `service` label in metrics.
    pub(crate) upstream: Upstream,
    /// Which callers are accepted.
    pub(crate) access: Access,
}

/// The service behind a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Upstream {
    /// Users and sessions.
    Accounts,
    /// Rooms, messages and presence.
    Chat,
    /// The gateway itself.
    Gateway,
    /// Engine.IO. Only this route accepts upgrades and bodies that are not JSON.
    Sockets,
}

/// Which callers a route accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Any caller. Credentials are ignored.
    Public,
    /// The user of an open session.
    User,
    /// The user of an open session. Also anonymous: a page of a listed origin, which authenticates in CONNECT; a request
    /// with the id of an Engine.IO session; and a request with credentials of no open session, whose CONNECT chat refuses.
    UserOrListed,
}

use Access::{Public, User, UserOrListed};
use Upstream::{Accounts, Chat, Gateway, Sockets};

/// Bodies follow the method: POST, PUT and PATCH may have JSON, the others have no body. The socket route has its own
/// rules.
#[rustfmt::skip]
static ROUTES: [Route; 16] = [
    route("POST",               REGISTER,                       Accounts, Public), // has a limit
    route("POST",               LOGIN,                          Accounts, Public), // has a limit
    route("POST",               LOGOUT,                         Accounts, Public),
    route("GET",                "/user/me",                     Accounts, User),
    route("GET, POST",          "/rooms",                       Chat,     User),
    route("GET, PATCH, DELETE", "/rooms/{room}",                Chat,     User),
    route("PUT, DELETE",        "/rooms/{room}/members/{user}", Chat,     User),
    route("GET, POST",          "/rooms/{room}/messages",       Chat,     User),
    route("GET",                "/rooms/{room}/changes",        Chat,     User),
    route("GET",                "/presence/online",             Chat,     User),
    route("GET",                "/presence/typing",             Chat,     User),
    route(pages::METHODS,       "/healthz",                     Gateway,  Public),
    route(pages::METHODS,       "/",                            Gateway,  Public),
    route(pages::METHODS,       "/openapi.yaml",                Gateway,  Public),
    route(pages::METHODS,       "/asyncapi.yaml",               Gateway,  Public),
    route("GET, POST",          SOCKETS,                        Sockets,  UserOrListed),
];

/// The path of Engine.IO.
pub(crate) const SOCKETS: &str = "/socket.io/";

/// The path of registrations.
pub(crate) const REGISTER: &str = "/user/register";

/// The path of logins.
pub(crate) const LOGIN: &str = "/user/login";

/// The path of the logout, which ends the sessions of all tokens of the request.
const LOGOUT: &str = "/user/logout";

const fn route(allow: &'static str, path: &'static str, upstream: Upstream, access: Access) -> Route {
    Route { allow, path, upstream, access }
}

/// The route and the method of a canonical path with these `segments`.
pub(crate) fn find(method: &str, segments: &[Cow<'_, str>]) -> Result<(&'static Route, &'static str), Error> {
    let route = ROUTES.iter().find(|route| route.matches(segments)).ok_or(Error::NotFound)?;
    let allowed = route.allow.split(", ").find(|listed| *listed == method);
    allowed.map(|method| (route, method)).ok_or(Error::Method(route.allow))
}

impl Route {
    /// Whether it ends the sessions of the request's tokens.
    pub(crate) fn is_logout(&self) -> bool {
        self.path == LOGOUT
    }

    fn matches(&self, segments: &[Cow<'_, str>]) -> bool {
        if self.path == "/" {
            return segments.is_empty();
        }
        let mut pattern = self.path.split('/').skip(1);
        let all = segments.iter().all(|segment| pattern.next().is_some_and(|part| fits(part, segment)));
        all && pattern.next().is_none() && !segments.is_empty()
    }
}

impl Upstream {
    /// The `service` label in metrics.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Accounts => "accounts",
            Chat => "chat",
            Gateway => "gateway",
            Sockets => "sockets",
        }
    }
}

fn fits(part: &str, segment: &str) -> bool {
    if part.starts_with('{') { !segment.is_empty() } else { part == segment }
}

#[cfg(test)]
mod tests;
