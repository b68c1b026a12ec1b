//! The route table: all of HTTP that Godzilla has, on one screen. The door looks every request up here before anything
//! behind it runs; what is not in the table does not exist.

use std::borrow::Cow;

use crate::{error::Error, own};

/// One path and what it takes.
#[derive(Debug)]
pub(crate) struct Route {
    /// Methods, as in the `Allow` header.
    pub(crate) allow: &'static str,
    /// The path; a segment in braces stands for any one segment.
    pub(crate) path: &'static str,
    /// Who answers; the `service` label in metrics.
    pub(crate) upstream: Upstream,
    /// Who may ask.
    pub(crate) who: Who,
}

/// The service behind a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Upstream {
    /// Who people are.
    Accounts,
    /// What people say.
    Chat,
    /// The gateway itself.
    Own,
    /// Engine.IO: the only place for upgrades, and the only bodies that are not JSON.
    Sockets,
}

/// Whom a route is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// Everybody; credentials are not looked at.
    Anyone,
    /// The user of a live session.
    User,
    /// The user of a live session; a page of a listed origin, which says who it is in CONNECT; whoever knows the id of an
    /// Engine.IO session; or nobody, when the request carries credentials of no live session: chat refuses its CONNECT.
    UserOrListed,
}

use Upstream::{Accounts, Chat, Own, Sockets};
use Who::{Anyone, User, UserOrListed};

/// Bodies follow the method: POST, PUT and PATCH may have one, in JSON; the others have none. Sockets have their own rules.
#[rustfmt::skip]
static ROUTES: [Route; 13] = [
    route("POST",               "/user/register",               Accounts, Anyone),
    route("POST",               "/user/login",                  Accounts, Anyone), // behind Gateway::login_limit
    route("POST",               "/user/logout",                 Accounts, Anyone),
    route("GET",                "/user/me",                     Accounts, User),
    route("GET, POST",          "/rooms",                       Chat,     User),
    route("GET, PATCH, DELETE", "/rooms/{room}",                Chat,     User),
    route("PUT, DELETE",        "/rooms/{room}/members/{user}", Chat,     User),
    route("GET, POST",          "/rooms/{room}/messages",       Chat,     User),
    route("GET",                "/presence/online",             Chat,     User),
    route("GET",                "/presence/typing",             Chat,     User),
    route(own::METHODS,         "/healthz",                     Own,      Anyone),
    route(own::METHODS,         "/",                            Own,      Anyone),
    route("GET, POST",          SOCKETS,                        Sockets,  UserOrListed),
];

/// The path of Engine.IO.
pub(crate) const SOCKETS: &str = "/socket.io/";

const fn route(allow: &'static str, path: &'static str, upstream: Upstream, who: Who) -> Route {
    Route { allow, path, upstream, who }
}

/// The route of a canonical path, whose `segments` these are, and which of its methods this is.
pub(crate) fn find(method: &str, segments: &[Cow<'_, str>]) -> Result<(&'static Route, &'static str), Error> {
    let route = ROUTES.iter().find(|route| route.matches(segments)).ok_or(Error::NotFound)?;
    let known = route.allow.split(", ").find(|allowed| *allowed == method);
    known.map(|method| (route, method)).ok_or(Error::Method(route.allow))
}

impl Route {
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
    /// The label in metrics.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Accounts => "accounts",
            Chat => "chat",
            Own => "gateway",
            Sockets => "sockets",
        }
    }
}

fn fits(part: &str, segment: &str) -> bool {
    if part.starts_with('{') { !segment.is_empty() } else { part == segment }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(method: &str, path: &str) -> Result<&'static str, Error> {
        let segments: Vec<_> = path.split('/').skip(1).map(Cow::Borrowed).collect();
        let none = path == "/";
        find(method, if none { &[] } else { &segments }).map(|(route, _)| route.path)
    }

    #[test]
    fn every_route_is_found_with_each_of_its_methods_and_no_other() {
        for route in &ROUTES {
            let path = route.path.replace("{room}", "team:red").replace("{user}", "bob");
            for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "get", "BREW", ""] {
                let allowed = route.allow.split(", ").any(|one| one == method);
                let want = if allowed { Ok(route.path) } else { Err(Error::Method(route.allow)) };
                assert_eq!(look(method, &path), want, "{method} {path}");
            }
        }
    }

    #[test]
    fn what_is_not_in_the_table_does_not_exist() {
        let strangers = [
            "/user",
            "/user/",
            "/user/me/",
            "/user/me/x",
            "/User/me",
            "/socket.io",
            "/socket.io/x",
            "/socket.io/x/",
            "/rooms/",
            "/rooms/a/",
            "/rooms/a/members",
            "/rooms/a/members/",
            "/rooms/a/b",
            "/metrics",
            "/readyz",
            "/livez",
        ];
        for path in strangers {
            assert_eq!(look("GET", path), Err(Error::NotFound), "{path}");
        }
    }
}
