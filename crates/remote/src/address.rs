//! Faults of the address of a store. An address can contain a password, so no text contains a part of it.

use deadpool_redis::redis::Client;

/// What is wrong with an address whose user or password is not encoded, and the remedy.
pub const UNENCODED: &str = "its user or password contains a character that must be percent-encoded: % as %25, @ as %40, : as %3A, / as %2F, ? as %3F, # as %23";

/// Why a text is not an address of a Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAnAddress {
    /// It has another form.
    #[error("expected an address such as redis://127.0.0.1:6379/0")]
    Form,
    /// It requires TLS.
    #[error(
        "TLS (rediss://) is not supported: use redis:// in a private network, or through a local TLS proxy such as stunnel"
    )]
    Tls,
    /// It names a Unix socket.
    #[error("Unix sockets are not supported: name a host and a port, such as redis://127.0.0.1:6379/0")]
    UnixSocket,
    /// It names a Sentinel.
    #[error(
        "Redis Sentinel is not supported: name the host and the port of the primary, such as redis://127.0.0.1:6379/0"
    )]
    Sentinel,
    /// Its user or password is not encoded.
    #[error("{UNENCODED}")]
    Unencoded,
}

/// Checks that this is an address of a Redis. Does not connect.
///
/// # Errors
/// When it is not of the form `redis://[user:password@]host[:port][/database]`.
pub fn check_redis_url(url: &str) -> Result<(), NotAnAddress> {
    if url.starts_with("rediss:") {
        return Err(NotAnAddress::Tls);
    }
    let scheme = url.split(':').next().unwrap_or_default();
    if ["unix", "redis+unix", "valkey+unix"].contains(&scheme) {
        return Err(NotAnAddress::UnixSocket);
    }
    if scheme.contains("sentinel") {
        return Err(NotAnAddress::Sentinel);
    }
    // Such an address can be valid: of a host with the name of the user.
    let ends_early =
        after_scheme(url).find(['/', '?', '#']).is_some_and(|end| after_scheme(url)[end..].contains('@'));
    if ends_early {
        return Err(NotAnAddress::Unencoded);
    }
    let refused = if is_unencoded(url) { NotAnAddress::Unencoded } else { NotAnAddress::Form };
    Client::open(url).map(|_| ()).map_err(|_| refused)
}

/// Whether the user or the password of an address that is not valid contains a character that must be encoded.
pub fn is_unencoded(address: &str) -> bool {
    let Some((credentials, _)) = after_scheme(address).rsplit_once('@') else { return false };
    let password = credentials.split_once(':').map_or("", |(_, password)| password);
    let is_escape = |rest: &str| rest.len() >= 2 && rest.bytes().take(2).all(|byte| byte.is_ascii_hexdigit());
    let has_percent = credentials.split('%').skip(1).any(|rest| !is_escape(rest));
    credentials.contains(['/', '?', '#', '@']) || password.contains(':') || has_percent
}

fn after_scheme(address: &str) -> &str {
    address.split_once("://").map_or(address, |(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_refused_names_the_remedy_and_not_the_password() {
        let rows = [
            ("redis://127.0.0.1:6379/0", Ok(())),
            ("redis://user:s3cret@host:6379/1", Ok(())),
            ("redis://:s3%2Fcret%40@host", Ok(())),
            ("redis://host/0?protocol=resp3", Ok(())),
            ("rediss://:s3cret@host:6379/0", Err(NotAnAddress::Tls)),
            ("unix:///run/s3cret.sock", Err(NotAnAddress::UnixSocket)),
            ("redis+unix:///run/s3cret.sock?db=1", Err(NotAnAddress::UnixSocket)),
            ("redis-sentinel://s3cret:26379/main", Err(NotAnAddress::Sentinel)),
            ("redis://:s3/cret@host:6379/0", Err(NotAnAddress::Unencoded)),
            ("redis://:s3cret#1@host:6379/0", Err(NotAnAddress::Unencoded)),
            ("redis://user:12?s3cret@host", Err(NotAnAddress::Unencoded)),
            ("redis://user:12/s3cret@host", Err(NotAnAddress::Unencoded)),
            ("s3cret", Err(NotAnAddress::Form)),
            ("mongodb://:s3cret@host/", Err(NotAnAddress::Form)),
            ("http://s3cret", Err(NotAnAddress::Form)),
        ];
        for (url, expected) in rows {
            let checked = check_redis_url(url);
            assert_eq!(checked, expected, "{url}");
            assert!(checked.is_ok() || !checked.unwrap_err().to_string().contains("s3"), "{url}");
        }
    }

    #[test]
    fn characters_of_a_password_that_must_be_encoded_are_found() {
        for password in ["a@b", "a:b", "a/b", "a?b", "a#b", "a%b", "100%"] {
            assert!(is_unencoded(&format!("mongodb://user:{password}@host/?replicaSet=rs0")), "{password}");
        }
        for address in
            ["mongodb://host:1/?x=1", "mongodb://user:a%40b@host", "mongodb://user@host/", "host", ""]
        {
            assert!(!is_unencoded(address), "{address}");
        }
    }
}
