//! The authenticated caller of a request, set by the gateway. Services take the caller from no other source.

use crate::Username;

/// An authenticated caller. The gateway inserts it into the request's extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The session's user.
    pub username: Username,
    /// The session's public id: the hash of its token in hex. It links sockets to the login session.
    pub session: String,
}

/// The cookie with the session token.
pub const COOKIE: &str = "auth_token";

/// The header in which a gateway that drains sends a chat node the longest time, in milliseconds, for which a poll waits. The
/// gateway forwards no such header of a client.
pub const POLL_LIMIT: &str = "x-poll-limit";

/// Headers with which a client could claim an identity or an address. The gateway removes them from every request, in any
/// spelling (case, `_` for `-`).
pub const FORBIDDEN_HEADERS: [&str; 7] = [
    "x-authenticated-user",
    "x-authenticated-session",
    "x-authenticated-signature",
    "x-forwarded-user",
    "x-remote-user",
    "remote-user",
    "x-real-ip",
];

/// Whether the gateway removes a client's header of this name (any case, `_` for `-`).
pub fn is_forbidden_header(name: &str) -> bool {
    let canonical = name.to_ascii_lowercase().replace('_', "-");
    canonical.starts_with("x-authenticated-") || FORBIDDEN_HEADERS.contains(&canonical.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_headers_are_removed_in_any_spelling() {
        for name in [
            "X-Authenticated-User",
            "x_authenticated_user",
            "X_Authenticated-USER",
            "Remote_User",
            "X-Real-IP",
        ] {
            assert!(is_forbidden_header(name), "{name}");
        }
        for name in ["cookie", "authorization", "x-request-id", "x-authenticate"] {
            assert!(!is_forbidden_header(name), "{name}");
        }
    }
}
