//! Stores that several deployments share, and roles of one deployment that name different stores. No role uses stores that are in use by
//! another deployment, and `/readyz` and the log name the cause and the flags to correct.

use std::{
    fs,
    net::Ipv4Addr,
    process::Command,
    time::{Duration, Instant},
};

use mongodb::{
    Client, Database, IndexModel,
    bson::{Document, doc},
    options::IndexOptions,
};
use proto::{
    Identity, Timestamp,
    signature::{HEADER, Key, Target},
};
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use testkit::Stores;

use super::{KEY, Role, key_file, posted};
use crate::{
    config::text,
    support::{Request, Response, TIMEOUT, program},
};

/// What a role of another database names.
const OTHER_DATABASE: [&str; 4] = [
    "Redis holds the keys of this deployment for another MongoDB database, godzilla (id ",
    "this role uses staging (id ",
    "set --deployment (GODZILLA_DEPLOYMENT) or another database number in --redis-url (GODZILLA_REDIS_URL)",
    "free 15 s after",
];

/// What a role of another Redis names.
const OTHER_REDIS: [&str; 3] =
    ["is another one than the Redis (id ", "use the same collections of MongoDB", "--redis-url"];

/// The log line of a conflict.
const CONFLICT: &str = "in use by another deployment";

/// What a gateway names.
const NOT_OURS: &str = "uses another Redis, or another part of it, than this gateway";

/// Both stores and the key.
struct Setup {
    stores: Stores,
    key: NamedTempFile,
}

/// The stores that a role names: MongoDB, Redis, and further flags.
struct Named<'a> {
    mongo: &'a str,
    redis: &'a str,
    more: &'a [&'a str],
}

impl Setup {
    async fn start() -> Self {
        Self { stores: Stores::start().await, key: key_file() }
    }

    /// The flags of the stores, with the database `database` of MongoDB and the number `number` of Redis.
    fn flags(&self, role: &str, database: &str, number: &str) -> Vec<String> {
        let redis = self.stores.redis.url().replace("/0", &format!("/{number}"));
        let mongo = self.stores.mongo.uri().replace("/godzilla?", &format!("/{database}?"));
        assert!(mongo.contains(database) && redis.ends_with(number), "{mongo} {redis}");
        let key = self.key.path().to_string_lossy().into_owned();
        let mut flags = vec!["--redis-url".to_owned(), redis, "--secret-file".to_owned(), key];
        if role != "gateway" {
            flags.extend(["--mongo-uri".to_owned(), mongo]);
        }
        if role == "accounts" {
            flags.extend(["--bcrypt-cost".to_owned(), "4".to_owned()]);
        }
        flags
    }

    /// Starts a role. `named`: the stores that it names.
    async fn role(&self, role: &str, named: Named<'_>) -> Role {
        let mut flags = self.flags(role, named.mongo, named.redis);
        flags.extend(named.more.iter().map(|flag| (*flag).to_owned()));
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let mut role = Role::start_unready(role, &flags);
        role.wait_for_admin().await;
        role
    }

    /// Starts a role of the right stores and waits until it is ready.
    async fn right(&self, role: &str, more: &[&str]) -> Role {
        let mut role = self.role(role, Named { mongo: "godzilla", redis: "0", more }).await;
        role.wait_until_ready();
        role
    }

    async fn gateway(&self, accounts: &Role, redis: &str) -> Role {
        let more = ["--accounts-url", &format!("http://{}", accounts.address)];
        self.role("gateway", Named { mongo: "", redis, more: &more }).await
    }

    fn doctor(&self, role: &str, database: &str) -> String {
        let mut command = program();
        command.args(["doctor", role, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
        text(&command.args(self.flags(role, database, "0")).output().expect("the program starts"))
    }

    async fn database(&self) -> Database {
        Client::with_uri_str(self.stores.mongo.uri()).await.expect("an address").database("godzilla")
    }
}

impl Role {
    /// Waits until the role is ready, also when the lease of other roles must expire before.
    fn wait_until_taken_over(&mut self) {
        let until = Instant::now() + 2 * TIMEOUT;
        while !self.is_ready() {
            assert!(Instant::now() < until, "not ready after {:?}", 2 * TIMEOUT);
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.log.path()).expect("a log")
    }

    /// Sends a message to the lobby as the gateway forwards it for a user.
    async fn send(&self) -> Response {
        let identity = Identity { username: "alice".parse().expect("a name"), session: "0a".repeat(32) };
        let (key, target) = (Key::new(KEY.as_bytes()).expect("a long key"), "/rooms/lobby/messages");
        let signed = key.sign(Some(&identity), Target { method: "POST", path: target }, Timestamp::now());
        let request = Request::post(target, &json!({ "text": "hello" })).header(HEADER, &signed);
        request.send(Ipv4Addr::LOCALHOST, self.address).await
    }

    fn signal(&self, name: &str) {
        let arguments = [format!("-{name}"), self.child.id().to_string()];
        assert!(Command::new("kill").args(arguments).status().expect("kill is installed").success());
    }
}

fn alice() -> Value {
    json!({ "username": "alice", "password": "correct horse" })
}

/// An `.env` is copied for staging, and only the database is renamed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_database_on_the_same_redis_is_refused_until_the_first_one_ends() {
    let setup = Setup::start().await;
    let accounts = setup.right("accounts", &[]).await;
    let chat = setup.right("chat", &["--node", "n1"]).await;
    let mut gateway = setup.gateway(&accounts, "0").await;
    gateway.wait_until_ready();
    accounts.request(posted("/user/register", &alice())).await.expect(201);
    let token =
        accounts.request(posted("/user/login", &alice())).await.expect(200).token().expect("a cookie");

    let staging = |more| Named { mongo: "staging", redis: "0", more };
    let mut other = setup.role("accounts", staging(&[])).await;
    let same_name = setup.role("chat", staging(&["--node", "n1"])).await;
    let other_name = setup.role("chat", staging(&["--node", "m1"])).await;
    for role in [&other, &same_name, &other_name] {
        role.wait_for_readiness("staging", 503, &OTHER_DATABASE).await;
        assert!(role.log().contains(OTHER_DATABASE[0]), "{}", role.log());
    }
    for target in ["/user/register", "/user/login"] {
        other.request(posted(target, &alice())).await.expect_refusal(503);
    }
    let beside = setup.gateway(&other, "0").await;
    beside
        .wait_for_readiness("its gateway", 200, &["degraded", "accounts at http://", OTHER_DATABASE[0]])
        .await;
    let session = gateway.request(Request::get("/user/me").cookie(&token)).await.expect(200);
    assert_eq!(session.json()["username"], "alice", "the session is not ended by staging");
    gateway.wait_for_readiness("the first deployment", 200, &["\"ok\""]).await;
    chat.wait_for_readiness("its node", 200, &["\"ok\""]).await;
    let found = setup.doctor("accounts", "staging");
    assert!(found.contains("error: Redis: holds the keys") && found.contains("--deployment"), "{found}");
    assert!(!setup.doctor("accounts", "godzilla").contains("holds the keys"));

    // The first deployment ends.
    drop((accounts, chat, gateway));
    other.wait_until_taken_over();
    other.request(posted("/user/register", &alice())).await.expect(201);
    other.request(posted("/user/login", &alice())).await.expect(200);
    let late = setup.role("accounts", Named { mongo: "godzilla", redis: "0", more: &[] }).await;
    late.wait_for_readiness("the first database", 503, &["another MongoDB database, staging (id "]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roles_of_one_deployment_that_name_different_stores_are_named() {
    let setup = Setup::start().await;
    let accounts = setup.right("accounts", &[]).await;
    let _one = setup.right("chat", &["--node", "one"]).await;
    let rows = [
        ("another deployment", Named { mongo: "godzilla", redis: "0", more: &["--deployment", "x"] }, 200),
        ("another number of Redis", Named { mongo: "godzilla", redis: "1", more: &[] }, 503),
        ("another database", Named { mongo: "staging", redis: "0", more: &[] }, 503),
    ];
    for (what, named, status) in rows {
        let is_of_database = named.mongo == "staging";
        let other = setup.role("accounts", named).await;
        let words: &[&str] = if status == 200 {
            &["\"ok\""]
        } else if is_of_database {
            &OTHER_DATABASE
        } else {
            &OTHER_REDIS
        };
        other.wait_for_readiness(what, status, words).await;
        let gateway = setup.gateway(&other, "0").await;
        let named = format!("accounts at http://{}", other.address);
        let words =
            if is_of_database { [OTHER_DATABASE[0], OTHER_DATABASE[2]] } else { [NOT_OURS, "--deployment"] };
        gateway.wait_for_readiness(what, 200, &[&["degraded", named.as_str()], &words[..]].concat()).await;
        gateway.request(Request::post("/user/login", &alice())).await.expect_refusal(503);
        let until = Instant::now() + TIMEOUT;
        while !is_of_database && !gateway.log().contains(NOT_OURS) {
            assert!(Instant::now() < until, "{what}: {}", gateway.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let rows = [
        (
            "another database",
            Named { mongo: "staging", redis: "0", more: &["--node", "two"] },
            &OTHER_DATABASE[..],
        ),
        (
            "another number of Redis",
            Named { mongo: "godzilla", redis: "1", more: &["--node", "two"] },
            &OTHER_REDIS,
        ),
    ];
    for (what, named, words) in rows {
        let other = setup.role("chat", named).await;
        other.wait_for_readiness(what, 503, words).await;
        assert!(other.log().contains(words[0]), "{what}: {}", other.log());
    }
    let gateway = setup.gateway(&accounts, "0").await;
    gateway.wait_for_readiness("the right roles", 200, &["\"ok\""]).await;
}

/// The processes are stopped for longer than the lease, and another database acquires it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roles_that_lose_the_claim_while_they_run_use_no_store() {
    let setup = Setup::start().await;
    let accounts = setup.right("accounts", &[]).await;
    let chat = setup.right("chat", &["--node", "n1"]).await;
    chat.send().await.expect(201);
    accounts.request(posted("/user/register", &alice())).await.expect(201);
    accounts.signal("STOP");
    chat.signal("STOP");
    let mut other = setup.role("accounts", Named { mongo: "staging", redis: "0", more: &[] }).await;
    other.wait_until_taken_over();
    accounts.signal("CONT");
    chat.signal("CONT");
    let words = ["another MongoDB database, staging (id ", "this role uses godzilla (id "];
    for role in [&accounts, &chat] {
        role.wait_for_readiness("the first database", 503, &words).await;
        assert!(role.log().contains(words[0]), "{}", role.log());
    }
    accounts.request(posted("/user/login", &alice())).await.expect_refusal(503);
    chat.send().await.expect_refusal(503);
    let target = "/socket.io/?EIO=4&transport=polling";
    let open = Request::get(target).header(HEADER, &super::signed(KEY, "alice", target));
    chat.request(open).await.expect_refusal(421);
    let messages = setup.database().await.collection::<Document>("messages");
    assert_eq!(messages.count_documents(doc! {}).await.expect("MongoDB responds"), 1);

    drop(other);
    let (mut accounts, mut chat) = (accounts, chat);
    accounts.wait_until_taken_over();
    chat.wait_until_taken_over();
    accounts.request(posted("/user/login", &alice())).await.expect(200);
    chat.send().await.expect(201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_on_the_same_stores_waits_for_no_lease() {
    let setup = Setup::start().await;
    for (node, is_killed) in [("n1", true), ("n2", false), ("n3", true)] {
        let mut accounts = setup.right("accounts", &[]).await;
        let mut chat = setup.right("chat", &["--node", node]).await;
        for role in [&accounts, &chat] {
            assert!(!role.log().contains(CONFLICT), "{node}: {}", role.log());
        }
        if !is_killed {
            accounts.stop_in_time();
            chat.stop_in_time();
        }
    }
}

/// The keys are lost or overwritten, and another process creates an id meanwhile. The roles write them again and stay ready.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_claims_are_written_again_while_roles_run() {
    let setup = Setup::start().await;
    let accounts = setup.right("accounts", &[]).await;
    let chat = setup.right("chat", &["--node", "n1"]).await;
    let stores = setup.database().await.collection::<Document>("stores");
    let redis = &setup.stores.redis;
    let ids = async || {
        let of_redis = redis.query("EVAL \"return {ok=redis.call('GET',KEYS[1]) or ''}\" 1 {stores}:id");
        let claim = redis.query("EVAL \"return {ok=redis.call('GET',KEYS[1]) or ''}\" 1 {stores}:claim");
        let document = async |id| stores.find_one(doc! { "_id": id }).await.expect("MongoDB responds");
        let of =
            |found: Option<Document>| found.and_then(|found| found.get_str("id").ok().map(str::to_owned));
        (
            of_redis,
            claim.split(' ').next().map(str::to_owned),
            of(document("database").await),
            of(document("redis").await),
        )
    };
    let before = ids().await;
    let other = "0123456789abcdef01234567";
    let rows = [
        ("DEL {stores}:id {stores}:claim".to_owned(), false),
        ("EVAL \"redis.call('DEL',KEYS[1],KEYS[2]) redis.call('RPUSH',KEYS[1],'x') redis.call('HSET',KEYS[2],'x','y')\" 2 {stores}:claim {stores}:id".to_owned(), false),
        ("DEL {stores}:id".to_owned(), true),
        (format!("SET {{stores}}:id {other}"), false),
    ];
    for (command, drops) in rows {
        redis.execute(&command);
        if drops {
            stores.drop().await.expect("MongoDB responds");
        }
        let mut expected = before.clone();
        if command.contains(other) {
            (expected.0, expected.3) = (format!("+{other}"), Some(other.to_owned()));
        }
        let until = Instant::now() + TIMEOUT;
        loop {
            let found = ids().await;
            if found == expected {
                break;
            }
            assert!(Instant::now() < until, "{command}: {found:?} is not {expected:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        for role in [&accounts, &chat] {
            role.wait_for_readiness(&command, 200, &[]).await;
            assert!(!role.log().contains(CONFLICT), "{command}: {}", role.log());
        }
    }
}

/// Values that no role writes are no claim.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_that_another_program_has_written_does_not_count() {
    let setup = Setup::start().await;
    for claim in ["x", "\"0123456789abcdef01234567 99999999999999999 y\"", "\"0123456789abcdef01234567 1 y\""]
    {
        setup.stores.redis.execute(&format!("SET {{stores}}:claim {claim}"));
        let accounts = setup.right("accounts", &[]).await;
        assert!(!accounts.log().contains(CONFLICT), "{claim}: {}", accounts.log());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ttl_index_of_another_program_is_named_with_its_remedy() {
    let setup = Setup::start().await;
    let accounts = setup.right("accounts", &[]).await;
    let chat = setup.right("chat", &["--node", "n1"]).await;
    let database = setup.database().await;
    let rows = [("messages", &chat), ("rooms", &chat), ("changes", &chat), ("users", &accounts)];
    for (name, role) in rows {
        let collection = database.collection::<Document>(name);
        let ttl = IndexOptions::builder().expire_after(Duration::from_secs(1_000_000)).build();
        let index = IndexModel::builder().keys(doc! { "at": 1 }).options(ttl).build();
        collection.create_index(index).await.expect("MongoDB responds");
        let remedy = format!("db.getCollection(\\\"{name}\\\").dropIndex(\\\"at_1\\\")");
        role.wait_for_readiness(name, 503, &["MongoDB", "TTL index at_1", &remedy]).await;
        collection.drop_index("at_1").await.expect("MongoDB responds");
        role.wait_for_readiness(name, 200, &[]).await;
    }
}

/// The commands that copy a capped collection into another one, as `/readyz` names them.
async fn uncap(database: &Database, name: &str) {
    let copy = format!("{name}_copy");
    let collection = database.collection::<Document>(name);
    collection.aggregate([doc! { "$out": &copy }]).await.expect("MongoDB responds");
    // A collection without documents is not copied.
    let _ = database.create_collection(&copy).await;
    collection.drop().await.expect("MongoDB responds");
    let rename = doc! { "renameCollection": format!("godzilla.{copy}"), "to": format!("godzilla.{name}") };
    database.client().database("admin").run_command(rename).await.expect("MongoDB responds");
}

/// Collections that another program creates: the command, the command that ends the fault, the role, and the words of its `/readyz`.
fn created() -> [(Document, Document, &'static str, &'static [&'static str]); 4] {
    [
        (
            doc! { "create": "untold", "clusteredIndex": { "key": { "_id": 1 }, "unique": true }, "expireAfterSeconds": 9_i64 },
            doc! { "collMod": "untold", "expireAfterSeconds": "off" },
            "chat",
            &["untold by age", "collMod"],
        ),
        (
            doc! { "create": "untold", "timeseries": { "timeField": "t" } },
            doc! { "drop": "untold" },
            "chat",
            &["a time series", "untold"],
        ),
        (
            doc! { "create": "closed_sessions", "viewOn": "x", "pipeline": [] },
            doc! { "drop": "closed_sessions" },
            "accounts",
            &["a view", "closed_sessions"],
        ),
        (
            doc! { "create": "closed_sessions", "capped": true, "size": 4096 },
            doc! { "drop": "closed_sessions" },
            "accounts",
            &["closed_sessions", "capped"],
        ),
    ]
}

/// No message is acked while MongoDB would delete it, or where no message can be stored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collection_that_does_not_keep_documents_is_named_and_takes_none() {
    let setup = Setup::start().await;
    let accounts = setup.right("accounts", &[]).await;
    let chat = setup.right("chat", &["--node", "n1"]).await;
    let database = setup.database().await;
    let run = async |command: Document| drop(database.run_command(command).await.expect("MongoDB responds"));
    accounts.request(posted("/user/register", &alice())).await.expect(201);
    chat.send().await.expect(201);
    for (name, role) in [("messages", &chat), ("rooms", &chat), ("users", &accounts), ("lineage", &chat)] {
        // A collection that no write has created yet.
        let _ = database.create_collection(name).await;
        run(doc! { "convertToCapped": name, "size": 100_000 }).await;
        role.wait_for_readiness(name, 503, &["MongoDB", name, "capped", "$out", "drop it, and rename"]).await;
        match name {
            "messages" => drop(chat.send().await.expect_refusal(503)),
            "users" => {
                let bob = json!({ "username": "bob", "password": "correct horse" });
                drop(accounts.request(posted("/user/register", &bob)).await.expect_refusal(503));
            }
            _ => {}
        }
        uncap(&database, name).await;
        role.wait_for_readiness(name, 200, &[]).await;
    }
    for (fault, end, role, words) in created() {
        let role = if role == "chat" { &chat } else { &accounts };
        let name = fault.get_str("create").expect("a name").to_owned();
        let _ = database.collection::<Document>(&name).drop().await;
        let what = fault.to_string();
        run(fault).await;
        role.wait_for_readiness(&what, 503, words).await;
        run(end).await;
        role.wait_for_readiness(&what, 200, &[]).await;
    }
    chat.send().await.expect(201);
}

/// A start on a capped collection acks nothing either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_on_a_capped_collection_takes_no_message() {
    let setup = Setup::start().await;
    let database = setup.database().await;
    let capped = doc! { "create": "messages", "capped": true, "size": 100_000 };
    database.run_command(capped).await.expect("MongoDB responds");
    let chat = setup.role("chat", Named { mongo: "godzilla", redis: "0", more: &["--node", "n1"] }).await;
    chat.wait_for_readiness("at the start", 503, &["messages", "capped"]).await;
    chat.send().await.expect_refusal(503);
}

/// Inserts fail and all checks of MongoDB succeed, as behind a balancer or a proxy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failed_inserts_of_each_error_are_named() {
    let setup = Setup::start().await;
    let accounts = setup.right("accounts", &[]).await;
    let chat = setup.right("chat", &["--node", "n1"]).await;
    let admin = setup.database().await.client().database("admin");
    let rows = [
        (doc! { "errorCode": 10_107 }, ["not the primary", ": 10107 NotWritablePrimary"]),
        (doc! { "errorCode": 189 }, ["not the primary", ": 189 PrimarySteppedDown"]),
        (doc! { "errorCode": 11_600 }, ["shutting down", ": 11600 InterruptedAtShutdown"]),
        (doc! { "closeConnection": true }, ["ends the connection", "before it answers a write"]),
    ];
    for (number, (mut data, words)) in rows.into_iter().enumerate() {
        let what = data.to_string();
        data.insert("failCommands", ["insert"]);
        let fault = doc! { "configureFailPoint": "failCommand", "mode": "alwaysOn", "data": data };
        admin.run_command(fault).await.expect("test commands are enabled");
        for _ in 0..2 {
            chat.send().await.expect_refusal(503);
            let user = json!({ "username": format!("user{number}"), "password": "correct horse" });
            accounts.request(posted("/user/register", &user)).await.expect_refusal(503);
        }
        for (role, place) in [(&chat, "insert into messages"), (&accounts, "insert into users")] {
            role.wait_for_readiness(&what, 503, &[words[0], words[1], place]).await;
        }
        let end = doc! { "configureFailPoint": "failCommand", "mode": "off" };
        admin.run_command(end).await.expect("test commands are enabled");
        for role in [&chat, &accounts] {
            role.wait_for_readiness(&what, 200, &[]).await;
        }
    }
}
