//! The cause of a failed request to Redis, as a phrase for operators: what is wrong, and what to do about it. The phrase follows the
//! name of the store, as in "Redis is full".

use deadpool_redis::{
    HookError, PoolError,
    redis::{ErrorKind, RedisError, make_extension_error},
};

use crate::Unanswered;

/// The server does not respond in time.
pub const NO_ANSWER: &str = "does not answer";

/// The gate of the role is closed.
pub const GATE_CLOSED: &str = "is not used by this role: its /readyz names the cause";

/// The server refuses the credentials.
pub const REFUSES: &str = "refuses the user or the password";

/// No process listens on the address.
pub const REFUSED: &str = "refuses connections: check that it runs, and the host and port of its address";

/// The host name of the address does not resolve.
pub const UNKNOWN_HOST: &str = "has a host name that does not resolve: check DNS and its address";

/// No DNS server answers for the host name of the address.
pub const NO_DNS: &str =
    "has a host name for which DNS does not answer: check the DNS servers of this machine (/etc/resolv.conf)";

/// The server ends a TLS handshake, or answers it in plain text.
const NO_TLS: &str = "ends the TLS handshake: check the port, and whether the server uses TLS (tls=false)";

/// The certificate of the server is not accepted.
const UNTRUSTED: &str = "has a certificate that is not trusted: check tlsCAFile=, and that the certificate contains the host of its address";

/// The network does not reach the address.
pub const UNREACHABLE: &str = "cannot be reached over the network: check routes and network policies";

/// The user of the roles lacks a permission.
pub const FORBIDS: &str =
    "does not allow its user a needed command: grant the rights that docs/deploy.md lists";

/// A key of the roles has a value that no role writes.
const UNREADABLE: &str = "has a value under a name of the roles that they cannot read: delete the key, or use another database or --deployment";

/// The code of the error of a MongoDB at the address of Redis.
pub const MONGODB: &str = "MONGODB";

/// Phrases by the code of an error reply, in any order.
const BY_CODE: [(&str, &str); 15] = [
    (
        MONGODB,
        "is another program: MongoDB responds at its address; correct the host and port of its address",
    ),
    ("WRONGPASS", REFUSES),
    ("NOAUTH", REFUSES),
    ("NOPERM", FORBIDS),
    ("OOM", "is full and refuses writes: raise maxmemory or free memory"),
    ("READONLY", "is a replica and refuses writes: its address must name the primary"),
    ("NOREPLICAS", "refuses writes because too few replicas are connected (min-replicas-to-write)"),
    ("MISCONF", "refuses writes because it cannot save to its disk (MISCONF): check its disk and its log"),
    ("LOADING", "is loading its data"),
    ("MASTERDOWN", "is a replica without a primary"),
    ("CLUSTERDOWN", "is a Redis Cluster that is down: a single Redis is needed"),
    ("MOVED", "is a Redis Cluster: a single Redis is needed"),
    ("BUSY", "is busy with a script that does not end"),
    (
        "WRONGTYPE",
        "has a key of another application under a name that the roles use: use another database or --deployment",
    ),
    ("DENIED", "is in protected mode and refuses connections from other hosts: set a password"),
];

/// Phrases by a part of the text of an error, in lower case. The first match applies.
const BY_TEXT: [(&str, &str); 18] = [
    ("tls handshake eof", NO_TLS),
    ("corrupt message of type invalidcontenttype", NO_TLS),
    ("invalid peer certificate", UNTRUSTED),
    ("connection refused", REFUSED),
    // The text of glibc, and that of musl.
    ("temporary failure in name resolution", NO_DNS),
    ("lookup address information: try again", NO_DNS),
    ("failed to lookup address", UNKNOWN_HOST),
    ("name or service not known", UNKNOWN_HOST),
    ("no address found", UNKNOWN_HOST),
    ("unreachable", UNREACHABLE),
    ("no route to host", UNREACHABLE),
    ("max number of clients", "has no free connection left: raise maxclients"),
    ("db index is out of range", "has no database of the number in its address"),
    ("acl failure", FORBIDS),
    ("can't run this command", FORBIDS),
    ("can't access this channel", FORBIDS),
    ("permissions to", FORBIDS),
    ("unknown command", "is older than version 7 or has renamed commands"),
];

impl Unanswered {
    /// The cause, as a phrase that follows "Redis".
    pub fn not_ready_reason(&self) -> &'static str {
        match self {
            Self::Late => NO_ANSWER,
            Self::StoreGateClosed(_) => GATE_CLOSED,
            Self::Redis(error)
            | Self::Connection(
                PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error)),
            ) => of(error),
            Self::Connection(_) => NO_ANSWER,
        }
    }
}

/// The cause of `error`, as a phrase that follows "Redis".
pub fn of(error: &RedisError) -> &'static str {
    if let Some((_, phrase)) = BY_CODE.iter().find(|(code, _)| error.code() == Some(code)) {
        return phrase;
    }
    let text = error.to_string().to_lowercase();
    if let Some(phrase) = by_text(&text) {
        return phrase;
    }
    match error.kind() {
        ErrorKind::AuthenticationFailed => REFUSES,
        // The reply was received, and its value is not of the expected form.
        ErrorKind::Parse if text.contains("value was") => UNREADABLE,
        ErrorKind::Parse => "does not use the protocol of Redis: check the port, and that it expects no TLS",
        _ => NO_ANSWER,
    }
}

/// The cause of an error reply in its text form, such as `NOREPLICAS Not enough good replicas to write.`, which scripts return for the
/// commands that they call. A phrase that follows "Redis".
pub fn of_reply(reply: &str) -> &'static str {
    let (code, text) = reply.split_once(' ').unwrap_or((reply, ""));
    of(&make_extension_error(code.to_owned(), Some(text.to_owned())))
}

/// The cause that the text of an error, in lower case, names. `None` when it names no cause of [`BY_TEXT`].
pub(crate) fn by_text(text: &str) -> Option<&'static str> {
    BY_TEXT.iter().find(|(part, _)| text.contains(part)).map(|(_, phrase)| *phrase)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_replies_name_their_cause() {
        let reply = |code: &str, text: &str| make_extension_error(code.to_owned(), Some(text.to_owned()));
        let cases: [(RedisError, &str); 6] = [
            (reply("OOM", "command not allowed when used memory > 'maxmemory'."), "full"),
            (reply("READONLY", "You can't write against a read only replica."), "replica"),
            (reply("NOREPLICAS", "Not enough good replicas to write."), "too few replicas"),
            (reply("MISCONF", "Redis is configured to save RDB snapshots"), "disk"),
            (reply("ERR", "max number of clients reached"), "maxclients"),
            (reply("NOPERM", "this user has no permissions to access one of the channels"), "rights"),
        ];
        for (error, part) in cases {
            let cause = Unanswered::Redis(error.clone()).not_ready_reason();
            assert!(cause.contains(part), "{error}: {cause}");
        }
    }
}
