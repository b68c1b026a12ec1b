//! The roles of a split system: a gateway, accounts, two chat nodes and presence, on a MongoDB and a Redis.

use std::{fs, net::SocketAddr, os::unix::fs::PermissionsExt, path::Path};

use mongodb::{
    Client,
    bson::{Document, doc},
};
use remote::redis::{self, AsyncCommands};
use serde_json::Value;
use testkit::Stores;

use super::free_addresses;

/// Which of a server's processes is which.
pub const GATEWAY: usize = 0;
/// See [`GATEWAY`].
pub const ACCOUNTS: usize = 1;
/// See [`GATEWAY`].
pub const NODES: [usize; 2] = [2, 3];
/// See [`GATEWAY`].
pub const PRESENCE: usize = 4;

/// Flags that the gateway has.
const GATEWAY_FLAGS: [&str; 11] = [
    "--deployment",
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
];

/// Flags that accounts has.
const ACCOUNTS_FLAGS: [&str; 4] =
    ["--cookie-secure", "--login-body-limit", "--login-body-deadline", "--deployment"];

/// Flags that others and chat nodes have, too.
const SHARED: [&str; 2] = ["--payload-limit", "--deployment"];

/// Flags that presence has.
const PRESENCE_FLAGS: [&str; 4] = ["--deployment", "--presence-lease", "--typing-expiry", "--presence-flush"];

/// Names the presence service of another deployment, to be used instead of the own one.
const SHARED_PRESENCE: &str = "--presence-url";

/// Flags that only one of the other roles has: no chat node can be told them.
const NOT_CHAT: [&[&str]; 3] = [&ACCOUNTS_FLAGS, &PRESENCE_FLAGS, &GATEWAY_FLAGS];

/// Where the gateway and presence listen, and for every process its arguments and its admin address: the gateway first, then
/// accounts, the two chat nodes, and presence.
pub fn commands(
    data: &Path,
    stores: &Stores,
    arguments: &[&str],
) -> (SocketAddr, SocketAddr, Vec<(Vec<String>, SocketAddr)>) {
    let key = data.join("key");
    fs::write(&key, "a key for tests that is long enough for everybody").expect("our own directory");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("our own file");
    let [gateway, accounts, one, two, presence] = free_addresses();
    let admins: [SocketAddr; 5] = free_addresses();
    let redis = ("--redis-url", stores.redis.url());
    let mongo = ("--mongo-uri", stores.mongo.uri());
    let secret = ("--secret-file", key.to_str().expect("our own path").to_owned());
    let shared = arguments.iter().skip_while(|flag| **flag != SHARED_PRESENCE).nth(1);
    let presence_url =
        ("--presence-url", shared.map_or_else(|| format!("http://{presence}"), ToString::to_string));
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
    let plans = vec![
        role("gateway", gateway, 0, &[accounts_url, redis.clone(), secret.clone()]),
        role("accounts", accounts, 1, &[cost, mongo.clone(), redis.clone(), secret.clone()]),
        node("one", one, 2),
        node("two", two, 3),
        role("presence", presence, 4, &[]),
    ];
    (gateway, presence, plans)
}

/// The arguments of one process.
pub fn command(name: &str, fixed: &[(&str, String)], more: impl Iterator<Item = String>) -> Vec<String> {
    let fixed = fixed.iter().flat_map(|(flag, value)| [(*flag).to_owned(), value.clone()]);
    std::iter::once(name.to_owned()).chain(fixed).chain(more).collect()
}

/// Of flags with one value each, the last one perhaps without, those that a role knows.
fn meant_for<'a>(role: &'a str, arguments: &'a [&str]) -> impl Iterator<Item = String> + 'a {
    let is_known = move |flag: &str| match role {
        "gateway" => GATEWAY_FLAGS.contains(&flag),
        "accounts" => ACCOUNTS_FLAGS.contains(&flag),
        "presence" => PRESENCE_FLAGS.contains(&flag),
        _ => SHARED.contains(&flag) || !NOT_CHAT.iter().any(|flags| flags.contains(&flag)),
    };
    let pairs = arguments.chunks(2).filter(move |pair| pair[0] != SHARED_PRESENCE && is_known(pair[0]));
    pairs.flatten().map(ToString::to_string)
}

/// Makes what the chat remembers older.
pub async fn age_data(stores: &Stores, ms: u64) {
    let client = redis::Client::open(stores.redis.admin_url()).expect("an address");
    let mut redis = client.get_multiplexed_async_connection().await.expect("Redis answers");
    let keys: Vec<String> = redis.keys("ticket:*").await.expect("Redis answers");
    for key in keys {
        let ticket: String = redis.get(&key).await.expect("Redis answers");
        let mut ticket: Value = serde_json::from_str(&ticket).expect("a ticket is JSON");
        let issued = ticket["issued"].as_u64().expect("a time");
        ticket["issued"] = (issued - ms).into();
        redis.set::<_, _, ()>(&key, ticket.to_string()).await.expect("Redis answers");
    }
    let client = Client::with_uri_str(stores.mongo.uri()).await.expect("an address");
    let messages = client.default_database().expect("it is named").collection::<Document>("messages");
    let older =
        doc! {"$set": {"timestamp": {"$subtract": ["$timestamp", i64::try_from(ms).expect("some time")]}}};
    messages.update_many(doc! {}, vec![older]).await.expect("changes");
}
