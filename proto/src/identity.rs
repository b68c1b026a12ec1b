//! Who a request comes from, as the gateway found it. The only source of identity for the services behind it.

use crate::Username;

/// A verified caller. The gateway puts it into the request's extensions; no service takes identity from anywhere else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The session's user.
    pub username: Username,
    /// The session's public id (the hash of its token, in hex): ties sockets to the login they came from.
    pub session: String,
}

/// The cookie that carries the session token.
pub const COOKIE: &str = "auth_token";

/// The header in which accounts names to the gateway, and to nobody else, the session that a login has opened: its public id.
pub const OPENED: &str = "x-session-opened";

/// Headers by which a client might try to name itself or its address. The gateway removes each of them in any spelling
/// (case, `_` for `-`) before a request goes further.
pub const FORBIDDEN_HEADERS: [&str; 7] = [
    "x-authenticated-user",
    "x-authenticated-session",
    "x-authenticated-signature",
    "x-forwarded-user",
    "x-remote-user",
    "remote-user",
    "x-real-ip",
];

/// Whether a client-sent header of this name (any case, `_` for `-`) must not reach a service.
pub fn is_forbidden_header(name: &str) -> bool {
    let canonical = name.to_ascii_lowercase().replace('_', "-");
    canonical.starts_with("x-authenticated-") || FORBIDDEN_HEADERS.contains(&canonical.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_headers_are_known_in_any_spelling() {
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
