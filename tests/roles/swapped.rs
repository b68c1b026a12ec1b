//! Addresses of the wrong service: `/readyz` names the address, what responds there, and the flag to correct.

use std::net::SocketAddr;

use serde_json::json;
use testkit::{Mongo, Redis};

use super::{Role, key_file};
use crate::support::Request;

/// The host and port of the address of a store.
fn server(url: &str) -> String {
    let after = url.split_once("://").map_or(url, |(_, after)| after);
    let authority = after.split('/').next().unwrap_or(after);
    authority.rsplit('@').next().unwrap_or(authority).to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_at_the_address_of_another_one_is_named_with_the_flag_to_correct() {
    let (mongo, redis) = (Mongo::start().await, Redis::start());
    let key = key_file();
    let (key, uri, url) = (key.path().to_string_lossy().into_owned(), mongo.uri(), redis.url());
    let shared = ["--redis-url", &url, "--secret-file", &key];
    let stores = [&shared[..], &["--mongo-uri", &uri]].concat();
    let accounts = Role::start("accounts", &[&stores[..], &["--bcrypt-cost", "4"]].concat());
    let presence = Role::start("presence", &[]);
    let presence_url = format!("http://{}", presence.address);
    let chat =
        Role::start("chat", &[&stores[..], &["--node", "one", "--presence-url", &presence_url]].concat());
    let gateway = async |accounts: SocketAddr| {
        let accounts = format!("http://{accounts}");
        let mut gateway =
            Role::start_unready("gateway", &[&shared[..], &["--accounts-url", &accounts]].concat());
        gateway.wait_for_admin().await;
        gateway
    };
    let remedy = "--accounts-url (GODZILLA_ACCOUNTS_URL) must name";
    let rows: [(&str, SocketAddr, &[&str]); 4] = [
        ("chat", chat.address, &["the role that responds is chat, not accounts", remedy]),
        (
            "the admin address of accounts",
            accounts.admin,
            &["another program responds, not accounts", remedy],
        ),
        ("presence", presence.address, &["expected accounts", remedy]),
        ("Redis", server(&url).parse().expect("an address"), &["accounts at http://", "closed"]),
    ];
    for (what, address, words) in rows {
        let gateway = gateway(address).await;
        let named = format!("accounts at http://{address}");
        let words = [words, &["\"degraded\"", named.as_str()]].concat();
        gateway.wait_for_readiness(what, 200, &words).await;
        let user = json!({ "username": "alice", "password": "correct horse" });
        let login = gateway.request(Request::post("/user/login", &user)).await;
        // A Redis closes the connection, so it is not recognized as another program.
        assert_eq!(login.status, if what == "Redis" { 502 } else { 503 }, "{what}: {login:?}");
    }
    let right = gateway(accounts.address).await;
    right.wait_for_readiness("accounts", 200, &["\"ok\""]).await;
    drop((right, chat));

    // Nodes at the addresses of other services.
    let chat = |node: &str, more: &[&str]| {
        Role::start_unready("chat", &[&stores[..], &["--node", node], more].concat())
    };
    let (at_accounts, at_admin) = (accounts.address.to_string(), accounts.admin.to_string());
    let rows = [
        ("two", at_accounts, "the role that responds is accounts, not a chat node"),
        ("three", at_admin, "another program responds, not a chat node"),
    ];
    for (node, address, words) in rows {
        let _node = chat(node, &["--advertise", &address, "--presence-url", &presence_url]);
        let gateway = gateway(accounts.address).await;
        gateway
            .wait_for_readiness(node, 503, &[&format!("{node} (http://{address})"), words, "--advertise"])
            .await;
    }

    name_programs_at_the_address_of_presence(
        chat,
        [accounts.address.to_string(), server(&url), server(&uri)],
    )
    .await;
}

/// Starts a node for each of `addresses`, where other programs than presence listen.
async fn name_programs_at_the_address_of_presence(
    chat: impl Fn(&str, &[&str]) -> Role,
    addresses: [String; 3],
) {
    for (node, address) in ["four", "five", "six"].into_iter().zip(addresses) {
        let mut role = chat(node, &["--presence-url", &format!("http://{address}")]);
        role.wait_for_admin().await;
        let words =
            [&*address, "another program responds, not presence", "--presence-url (GODZILLA_PRESENCE_URL)"];
        role.wait_for_readiness(&address, 200, &words).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_address_of_the_other_store_is_named() {
    let (mongo, redis) = (Mongo::start().await, Redis::start());
    let key = key_file();
    let key = key.path().to_string_lossy();
    let redis_at_mongo = format!("redis://{}/0", server(&mongo.uri()));
    let mongo_at_redis = format!("mongodb://{}/godzilla?replicaSet=rs0", server(&redis.url()));
    for name in ["gateway", "accounts", "chat"] {
        let role = Role::start_on(name, &mongo.uri(), &redis_at_mongo, &key).await;
        role.wait_for_readiness(name, 503, &["Redis", "MongoDB responds at its address"]).await;
    }
    for name in ["accounts", "chat"] {
        let role = Role::start_on(name, &mongo_at_redis, &redis.url(), &key).await;
        role.wait_for_readiness(name, 503, &["MongoDB", "Redis responds at its address"]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chat_nodes_with_different_presence_services_are_named() {
    let (mongo, redis) = (Mongo::start().await, Redis::start());
    let key = key_file();
    let (key, uri, url) = (key.path().to_string_lossy().into_owned(), mongo.uri(), redis.url());
    let shared = ["--redis-url", &url, "--secret-file", &key];
    let stores = [&shared[..], &["--mongo-uri", &uri]].concat();
    let accounts = Role::start("accounts", &[&stores[..], &["--bcrypt-cost", "4"]].concat());
    let presences = [Role::start("presence", &[]), Role::start("presence", &[])];
    let chat = |node: &str, presence: &Role| {
        let url = format!("http://{}", presence.address);
        Role::start("chat", &[&stores[..], &["--node", node, "--presence-url", &url]].concat())
    };
    let _one = chat("one", &presences[0]);
    let accounts_url = format!("http://{}", accounts.address);
    let mut gateway =
        Role::start_unready("gateway", &[&shared[..], &["--accounts-url", &accounts_url]].concat());
    gateway.wait_for_admin().await;
    gateway.wait_for_readiness("one presence", 200, &["\"ok\""]).await;
    let words = ["degraded", "reports to another presence service than the node at", "--presence-url"];
    let mut two = chat("two", &presences[1]);
    gateway.wait_for_readiness("two presences", 200, &words).await;
    let stopped = tokio::task::spawn_blocking(move || two.stop()).await.expect("no panic");
    assert_eq!(stopped, Some(0));
    let _two = chat("three", &presences[0]);
    gateway.wait_for_readiness("one presence again", 200, &["\"ok\""]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_of_a_gateway_below_those_of_its_services_are_named_with_both_values() {
    let (mongo, redis) = (Mongo::start().await, Redis::start());
    let key = key_file();
    let (key, uri, url) = (key.path().to_string_lossy().into_owned(), mongo.uri(), redis.url());
    let shared = ["--redis-url", &url, "--secret-file", &key];
    let stores = [&shared[..], &["--mongo-uri", &uri]].concat();
    let accounts = ["--bcrypt-cost", "4", "--login-body-limit", "60000"];
    let accounts = Role::start("accounts", &[&stores[..], &accounts].concat());
    let chat = ["--node", "one", "--payload-limit", "100000", "--text-limit", "9000"];
    let _chat = Role::start("chat", &[&stores[..], &chat].concat());
    let accounts_url = format!("http://{}", accounts.address);
    // The limits of a gateway, the status, and words of the message.
    let rows: [([&str; 2], &str, &[&str]); 4] = [
        (["100000", "65536"], "ok", &[]),
        (["200000", "131072"], "ok", &[]),
        (
            ["99999", "65536"],
            "degraded",
            &[
                "one (http://",
                "100000 bytes",
                "more than 99999 bytes",
                "--payload-limit (GODZILLA_PAYLOAD_LIMIT)",
            ],
        ),
        (
            ["100000", "59999"],
            "degraded",
            &[
                "accounts at http://",
                "60000 bytes",
                "more than 59999 bytes",
                "--body-limit (GODZILLA_BODY_LIMIT)",
            ],
        ),
    ];
    for ([payload, body], status, words) in rows {
        let limits = ["--payload-limit", payload, "--body-limit", body, "--accounts-url", &accounts_url];
        let mut gateway = Role::start_unready("gateway", &[&shared[..], &limits].concat());
        gateway.wait_for_admin().await;
        // A ready gateway has a report of each service.
        let status = format!("\"{status}\"");
        gateway.wait_for_readiness(payload, 200, &[&[&*status], words].concat()).await;
        if !words.is_empty() {
            gateway.wait_for_log(&["ready, degraded", words[1], words[2], words[3]]).await;
        }
    }
}
