//! Faults of an address of MongoDB that the driver does not name, or accepts. No text contains a user or a password.

use std::future::IntoFuture;

use futures_util::FutureExt;
use mongodb::{
    Client,
    options::{ClientOptions, ConnectionString, HostInfo, ServerAddress},
};

/// Databases of MongoDB itself.
const RESERVED: [&str; 3] = ["admin", "config", "local"];

/// The maximum length of the name of a database, in bytes.
const MAX_NAME: usize = 63;

/// Characters that the name of a database must not have.
const FORBIDDEN: &[char] = &['/', '\\', '.', ' ', '"', '$', '*', '<', '>', ':', '|', '\0'];

/// The maximum length of the name of an option in a text.
const MAX_OPTION: usize = 40;

/// An option with a value that would break a promise of the roles.
struct Unsupported {
    option: &'static str,
    /// Whether the roles do not support this value.
    is_refused: fn(&str) -> bool,
    /// The cause and the remedy.
    why: &'static str,
}

/// The options that the driver accepts and the roles do not. Others that concern reads and writes have no effect: see
/// [`super::connection`].
const UNSUPPORTED: [Unsupported; 3] = [
    Unsupported {
        option: "readPreference",
        is_refused: |value| !value.eq_ignore_ascii_case("primary"),
        why: "readPreference must be primary, because the roles read their own writes: remove the option",
    },
    Unsupported {
        option: "w",
        is_refused: |value| value.parse() == Ok(0),
        why: "the option w=0 is not supported, because each write must be acknowledged: remove it",
    },
    Unsupported {
        option: "loadBalanced",
        is_refused: |value| value.eq_ignore_ascii_case("true"),
        why: "the option loadBalanced=true is not supported: name the members of the replica set and replicaSet=",
    },
];

/// What is wrong with `uri`: its host, its database or one of its options, with the remedy. `None` for a valid address, and for one
/// without the form of an address. Needs a running runtime.
pub fn fault(uri: &str) -> Option<String> {
    let (_, rest) = uri.split_once("://")?;
    let (before, options) = rest.split_once('?').map_or((rest, ""), |(before, options)| (before, options));
    let after_user = before.rsplit_once('@').map_or(before, |(_, after)| after);
    let (hosts, database) =
        after_user.split_once('/').map_or((after_user, ""), |(hosts, database)| (hosts, database));
    if hosts.is_empty() || hosts.split(',').any(is_socket) {
        return Some("Unix sockets are not supported: name a host and a port, such as mongodb://127.0.0.1:27017/godzilla".to_owned());
    }
    database_fault(database).or_else(|| option_fault(uri, options))
}

/// Whether a host of an address is the path of a Unix socket.
fn is_socket(host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    host.ends_with(".sock") || host.starts_with("%2f")
}

fn database_fault(database: &str) -> Option<String> {
    let database = database.replace("%20", " ").replace("%2F", "/").replace("%2E", ".").replace("%24", "$");
    if RESERVED.contains(&database.to_ascii_lowercase().as_str()) {
        return Some(format!(
            "the database {database} belongs to MongoDB itself: name another one, such as godzilla"
        ));
    }
    let is_valid = database.len() <= MAX_NAME && !database.contains(FORBIDDEN);
    (!is_valid).then(|| {
        format!(
            "the name of the database is not valid: expected at most {MAX_NAME} bytes, without a space and without / \\ . \" $ * < > : |"
        )
    })
}

/// The option without which the driver accepts the address, or one that the roles do not support.
fn option_fault(uri: &str, options: &str) -> Option<String> {
    let all: Vec<&str> = options.split('&').filter(|option| !option.is_empty()).collect();
    // An option can stand twice, and the driver uses one of the values.
    let refused = UNSUPPORTED.iter().find(|unsupported| {
        all.iter().filter_map(|option| option.split_once('=')).any(|(name, value)| {
            name.eq_ignore_ascii_case(unsupported.option) && (unsupported.is_refused)(value)
        })
    });
    if let Some(refused) = refused {
        return Some(refused.why.to_owned());
    }
    if is_accepted(uri) {
        return None;
    }
    let address = uri.split_once('?').map_or(uri, |(address, _)| address);
    let culprit = (0..all.len()).find(|at| {
        let others: Vec<&str> =
            all.iter().enumerate().filter(|(other, _)| other != at).map(|(_, option)| *option).collect();
        is_accepted(&format!("{address}?{}", others.join("&")))
    })?;
    let name = all[culprit].split('=').next().unwrap_or_default();
    let is_name = name.len() <= MAX_OPTION && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let name = if is_name { format!("the option {name}") } else { "an option".to_owned() };
    Some(format!(
        "{name} is not supported, or does not have this value or stand beside the others: correct or remove it"
    ))
}

/// Whether the driver accepts the address, apart from DNS.
fn is_accepted(uri: &str) -> bool {
    let Ok(address) = ConnectionString::parse(uri) else { return false };
    match &address.host_info {
        // Without a server, the driver resolves no name here.
        HostInfo::HostIdentifiers(hosts)
            if hosts.iter().all(|host| matches!(host, ServerAddress::Tcp { .. })) => {}
        _ => return true,
    }
    let options = ClientOptions::parse(address).into_future().now_or_never();
    options.is_some_and(|options| options.and_then(Client::with_options).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_fault_is_named_without_the_password() {
        let rows = [
            ("mongodb://h/godzilla?replicaSet=rs0", None),
            ("mongodb://h:1,g:2/?replicaSet=rs0&w=majority&retryWrites=true", None),
            ("mongodb://u:s3cret@h/chat?authSource=admin&tls=true", None),
            ("mongodb://h", None),
            ("mongodb+srv://u:s3cret@cluster.example.net/godzilla?appName=x", None),
            ("s3cret", None),
            ("mongodb://u:s3cret@h/local?replicaSet=rs0", Some("the database local belongs")),
            ("mongodb://h/admin", Some("the database admin belongs")),
            ("mongodb://h/config?x=1", Some("the database config belongs")),
            ("mongodb://h/a.b?replicaSet=rs0", Some("name of the database")),
            ("mongodb://h/a%20b", Some("name of the database")),
            (
                "mongodb://h/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
                Some("at most 63"),
            ),
            ("mongodb://u:s3cret@h/x?readPreference=secondary", Some("readPreference")),
            ("mongodb://h/x?readPreference=secondaryPreferred", Some("readPreference")),
            ("mongodb://h/x?readPreference=primary", None),
            ("mongodb://h/x?readPreference=primary&readpreference=nearest", Some("readPreference")),
            ("mongodb://h/x?w=0", Some("w=0")),
            ("mongodb://h/x?replicaSet=rs0&W=00", Some("w=0")),
            ("mongodb://h/x?w=1&w=0", Some("w=0")),
            ("mongodb://h/x?w=-1", Some("the option w")),
            ("mongodb://h/x?w=1&journal=false&wtimeoutMS=1&readConcernLevel=local", None),
            ("mongodb://h/x?loadBalanced=true", Some("loadBalanced=true")),
            ("mongodb://h/x?loadBalanced=false", None),
            ("mongodb://h/x?directConnection=true", None),
            ("mongodb://h/x?maxPoolSize=0", Some("maxPoolSize")),
            ("mongodb://h/x?socketTimeoutMS=5", Some("socketTimeoutMS")),
            ("mongodb://h/x?compressors=zstd", Some("compressors")),
            ("mongodb://h/x?timeoutMS=1&replicaSet=rs0", Some("timeoutMS")),
            ("mongodb://h/x?heartbeatFrequencyMS=100", Some("heartbeatFrequencyMS")),
            ("mongodb://h/x?replicaSet=rs0&foo=s3cret", Some("foo")),
            ("mongodb://%2Ftmp%2Fmongodb-27017.sock/x", Some("Unix sockets")),
            ("mongodb:///tmp/mongodb.sock", Some("Unix sockets")),
        ];
        for (uri, expected) in rows {
            let found = fault(uri);
            let fits = match (&found, expected) {
                (Some(found), Some(words)) => found.contains(words) && !found.contains("s3cret"),
                (found, expected) => found.is_none() && expected.is_none(),
            };
            assert!(fits, "{uri}: {found:?}");
        }
    }
}
