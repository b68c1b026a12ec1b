//! The roles of a split system: a gateway, accounts, two chat nodes and presence, on a MongoDB and a Redis.

use std::{fs, net::SocketAddr, os::unix::fs::PermissionsExt, path::Path};

use testkit::Stores;

use super::free_addresses;

/// The index of the gateway in [`super::System::processes`].
pub const GATEWAY: usize = 0;
/// The index of accounts.
pub const ACCOUNTS: usize = 1;
/// The indexes of the chat nodes.
pub const NODES: [usize; 2] = [2, 3];
/// The index of presence.
pub const PRESENCE: usize = 4;

/// The flags of the gateway.
const GATEWAY_FLAGS: [&str; 13] = [
    "--deployment",
    DRAIN_DELAY,
    "--allow-origin",
    "--trusted-proxy",
    "--login-rate",
    "--login-burst",
    "--body-limit",
    "--body-timeout",
    "--head-timeout",
    "--keep-alive",
    "--payload-limit",
    "--allow-token-clients",
    "--allow-opaque-origin",
];

/// The flags of accounts.
const ACCOUNTS_FLAGS: [&str; 5] =
    ["--cookie-secure", "--login-body-limit", "--login-body-deadline", "--deployment", DRAIN_DELAY];

/// The flags of several roles and of chat nodes.
const SHARED: [&str; 3] = ["--payload-limit", "--deployment", DRAIN_DELAY];

/// The flag of the time after SIGTERM in which requests are accepted. Tests end processes without it.
const DRAIN_DELAY: &str = "--drain-delay";

/// The flags of presence.
const PRESENCE_FLAGS: [&str; 4] = ["--deployment", "--presence-lease", "--typing-expiry", "--presence-flush"];

/// The flags of the other roles; a chat node refuses them.
const NOT_CHAT: [&[&str]; 3] = [&ACCOUNTS_FLAGS, &PRESENCE_FLAGS, &GATEWAY_FLAGS];

/// The addresses of the gateway and of presence, and the arguments and admin address of each process: the gateway, accounts, two chat
/// nodes, presence.
pub fn commands(
    data: &Path,
    stores: &Stores,
    arguments: &[&str],
) -> (SocketAddr, SocketAddr, Vec<(Vec<String>, SocketAddr)>) {
    let key = key_file(data);
    let [gateway, accounts, one, two, presence] = free_addresses();
    let admins: [SocketAddr; 5] = free_addresses();
    let redis = ("--redis-url", stores.redis.url());
    let mongo = ("--mongo-uri", stores.mongo.uri());
    let secret = ("--secret-file", key);
    let presence_url = ("--presence-url", format!("http://{presence}"));
    let role = |name: &str, address: SocketAddr, admin: usize, more: &[(&str, String)]| {
        let mut fixed =
            vec![("--listen", address.to_string()), ("--admin-listen", admins[admin].to_string())];
        fixed.extend_from_slice(more);
        (command(name, &fixed, meant_for(name, arguments)), admins[admin])
    };
    let node = |name: &str, address, admin| {
        let name = ("--node", name.to_owned());
        let more = [name, mongo.clone(), redis.clone(), secret.clone(), presence_url.clone()];
        role("chat", address, admin, &more)
    };
    let accounts_url = ("--accounts-url", format!("http://{accounts}"));
    let cost = ("--bcrypt-cost", "4".to_owned());
    let delay = (!arguments.contains(&DRAIN_DELAY)).then(|| (DRAIN_DELAY, "0s".to_owned()));
    let with_delay = |fixed: &[(&'static str, String)]| [fixed, delay.as_slice()].concat();
    let plans = vec![
        role("gateway", gateway, 0, &with_delay(&[accounts_url, redis.clone(), secret.clone()])),
        role("accounts", accounts, 1, &with_delay(&[cost, mongo.clone(), redis.clone(), secret.clone()])),
        node("one", one, 2),
        node("two", two, 3),
        role("presence", presence, 4, &[]),
    ];
    (gateway, presence, plans)
}

/// As [`commands`], with one process for each set of roles, such as `gateway,chat`. The gateway is in the first set. The chat nodes are
/// named `one`, `two` and so on, in the order of the sets.
pub fn sets(
    data: &Path,
    stores: &Stores,
    sets: &[&str],
) -> (SocketAddr, SocketAddr, Vec<(Vec<String>, SocketAddr)>) {
    let key = key_file(data);
    let [gateway, accounts, presence] = free_addresses();
    let mut names = ["one", "two", "three"].into_iter();
    let mut plans = Vec::new();
    for set in sets {
        let has = |role: &str| set.split(',').any(|other| other == role);
        let [admin] = free_addresses();
        let mut fixed = vec![
            ("--roles", (*set).to_owned()),
            ("--admin-listen", admin.to_string()),
            ("--redis-url", stores.redis.url()),
            ("--secret-file", key.clone()),
            (DRAIN_DELAY, "0s".to_owned()),
        ];
        if has("gateway") {
            fixed.push(("--listen", gateway.to_string()));
            if !has("accounts") {
                fixed.push(("--accounts-url", format!("http://{accounts}")));
            }
        }
        if has("accounts") {
            fixed.extend([("--accounts-listen", accounts.to_string()), ("--bcrypt-cost", "4".to_owned())]);
        }
        if has("chat") {
            let [chat] = free_addresses();
            let name = names.next().expect("at most three chat nodes");
            fixed.extend([("--chat-listen", chat.to_string()), ("--node", name.to_owned())]);
            if !has("presence") {
                fixed.push(("--presence-url", format!("http://{presence}")));
            }
        }
        if has("accounts") || has("chat") {
            fixed.push(("--mongo-uri", stores.mongo.uri()));
        }
        if has("presence") {
            fixed.push(("--presence-listen", presence.to_string()));
        }
        plans.push((command("run", &fixed, std::iter::empty()), admin));
    }
    (gateway, presence, plans)
}

/// A file with the key of the roles; returns its path.
fn key_file(data: &Path) -> String {
    let key = data.join("key");
    fs::write(&key, "a key for tests that is long enough").expect("a directory");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("a file");
    key.to_str().expect("a path").to_owned()
}

/// The arguments of one process.
pub fn command(name: &str, fixed: &[(&str, String)], more: impl Iterator<Item = String>) -> Vec<String> {
    let fixed = fixed.iter().flat_map(|(flag, value)| [(*flag).to_owned(), value.clone()]);
    std::iter::once(name.to_owned()).chain(fixed).chain(more).collect()
}

/// The pairs of flag and value in `arguments` that a role has; the last flag may be without a value.
fn meant_for<'a>(role: &'a str, arguments: &'a [&str]) -> impl Iterator<Item = String> + 'a {
    let has_flag = move |flag: &str| match role {
        "gateway" => GATEWAY_FLAGS.contains(&flag),
        "accounts" => ACCOUNTS_FLAGS.contains(&flag),
        "presence" => PRESENCE_FLAGS.contains(&flag),
        _ => SHARED.contains(&flag) || !NOT_CHAT.iter().any(|flags| flags.contains(&flag)),
    };
    let pairs = arguments.chunks(2).filter(move |pair| has_flag(pair[0]));
    pairs.flatten().map(ToString::to_string)
}
