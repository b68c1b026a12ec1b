//! Findings about stores that answer and do not accept what the roles do. The doctor leaves no key, document, collection or index.

use std::{fs, os::unix::fs::PermissionsExt};

use mongodb::{
    Client, Database,
    bson::{Document, doc},
};
use tempfile::TempDir;
use testkit::{Mongo, MongoFault, Redis};

use super::{check_finding, examine};
use crate::config::text;

/// The roles that use Redis.
const ROLES: [&str; 3] = ["gateway", "accounts", "chat"];

/// Restores the rights of the user of the roles.
const RIGHTS: &str =
    "ACL SETUSER godzilla reset on >secret ~* &* +@all -@admin -@dangerous +info +config|get";

/// The stores of a deployment, and the key of its roles.
struct Stores {
    mongo: Mongo,
    redis: Redis,
    folder: TempDir,
}

impl Stores {
    async fn start() -> Self {
        let folder = TempDir::new().expect("a temporary directory");
        let key = folder.path().join("key");
        fs::write(&key, "WXlm7c2Ue0Rr9vQkq4Zt1Jb8sNf3hPyA6dGoTiLx5Ew=").expect("a file");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("a mode");
        Self { mongo: Mongo::start().await, redis: Redis::start(), folder }
    }

    /// Runs the doctor for `role` on these addresses.
    fn examine(&self, role: &str, mongo: &str, redis: &str) -> std::process::Output {
        let key = self.folder.path().join("key");
        let shared = ["--redis-url", redis, "--secret-file", &key.to_string_lossy()].map(str::to_owned);
        let more: &[&str] = match role {
            "gateway" => &["--accounts-url", "http://127.0.0.1:1"],
            _ => &["--mongo-uri", mongo],
        };
        let arguments: Vec<&str> = shared.iter().map(String::as_str).chain(more.iter().copied()).collect();
        examine(role, &arguments, &self.folder)
    }

    fn doctor(&self, role: &str) -> std::process::Output {
        self.examine(role, &self.mongo.uri(), &self.redis.url())
    }

    async fn database(&self) -> Database {
        Client::with_uri_str(self.mongo.uri()).await.expect("an address").database("godzilla")
    }

    /// Requires that the stores have no findings and no data.
    async fn check_clean(&self, what: &str) {
        for role in ROLES {
            let printed = text(&self.doctor(role));
            for store in ["Redis: ", "MongoDB: "] {
                assert!(!printed.contains(store), "{role}, {what}: {printed}");
            }
        }
        assert_eq!(self.redis.query("DBSIZE"), ":0", "{what}");
        let mut collections = self.database().await.list_collection_names().await.expect("it answers");
        // MongoDB creates it for the views of a test.
        collections.retain(|name| name != "system.views");
        assert_eq!(collections, [""; 0], "{what}");
    }
}

#[tokio::test]
async fn a_redis_that_refuses_what_a_role_does_is_reported() {
    let stores = Stores::start().await;
    stores.check_clean("at first").await;
    // What an administrator does and undoes, the roles with a finding, and its words.
    let all = &ROLES[..];
    let table: [(&str, &str, &[&str], &[&str]); 16] = [
        (
            "CONFIG SET min-replicas-to-write 3",
            "CONFIG SET min-replicas-to-write 0",
            all,
            &["NOREPLICAS", "too few replicas"],
        ),
        ("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0", all, &["OOM", "raise maxmemory"]),
        ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE", all, &["read only replica", "must name the primary"]),
        ("ACL SETUSER godzilla -eval -evalsha -script", RIGHTS, all, &["EVALSHA", "grant the rights"]),
        ("ACL SETUSER godzilla -xadd -xread", RIGHTS, &["chat"], &["XADD", "grant the rights"]),
        ("ACL SETUSER godzilla -psetex", RIGHTS, &["chat"], &["PSETEX", "grant the rights"]),
        ("ACL SETUSER godzilla -rpush", RIGHTS, &["accounts"], &["RPUSH", "grant the rights"]),
        ("ACL SETUSER godzilla -hgetall", RIGHTS, &["gateway"], &["HGETALL", "grant the rights"]),
        ("ACL SETUSER godzilla -mget", RIGHTS, all, &["MGET", "grant the rights"]),
        ("ACL SETUSER godzilla -subscribe", RIGHTS, all, &["SUBSCRIBE", "grant the rights"]),
        ("ACL SETUSER godzilla resetchannels", RIGHTS, all, &["grant the rights", "channel"]),
        ("ACL SETUSER godzilla resetchannels &foo*", RIGHTS, all, &["grant the rights", "channel"]),
        ("ACL SETUSER godzilla resetkeys ~other:*", RIGHTS, all, &["grant the rights", "key"]),
        ("ACL SETUSER godzilla -@write", RIGHTS, all, &["grant the rights"]),
        ("SET chat:nodes x", "DEL chat:nodes", &["gateway"], &["chat:nodes", "another program"]),
        ("SET {log}:stream x", "DEL {log}:stream", &["chat"], &["{log}:stream", "another program"]),
    ];
    for (fault, remedy, roles, words) in table {
        stores.redis.execute(fault);
        for role in ROLES {
            let output = stores.doctor(role);
            if roles.contains(&role) {
                check_finding(&output, "error: Redis: ", words);
            } else {
                assert!(!text(&output).contains("Redis: "), "{role}, {fault}: {}", text(&output));
            }
            assert!(!text(&output).contains("secret@"), "{}", text(&output));
        }
        stores.redis.execute(remedy);
        assert_eq!(stores.redis.query("DBSIZE"), ":0", "{fault}");
    }
    stores.check_clean("at the end").await;
}

/// A command and its database.
async fn run(stores: &Stores, database: &str, command: Document) {
    let client = Client::with_uri_str(stores.mongo.uri()).await.expect("an address");
    client
        .database(database)
        .run_command(command.clone())
        .await
        .unwrap_or_else(|error| panic!("{command}: {error}"));
}

/// Makes MongoDB refuse these commands with this code.
fn failing(commands: &[&str], code: i32) -> Document {
    doc! { "configureFailPoint": "failCommand", "mode": "alwaysOn", "data": { "failCommands": commands, "errorCode": code } }
}

/// A database, a command that makes MongoDB refuse the roles, the command that ends it, and the words of the finding.
type Fault = (&'static str, Document, Document, &'static [&'static str]);

fn faults() -> [Fault; 12] {
    let off = || doc! { "configureFailPoint": "failCommand", "mode": "off" };
    [
        ("admin", failing(&["insert"], 13), off(), &["insert into", "grant the rights", "readWrite"]),
        ("admin", failing(&["update"], 14_031), off(), &["update of", "no disk space", "free space"]),
        ("admin", failing(&["delete"], 13), off(), &["delete from", "grant the rights"]),
        ("admin", failing(&["find"], 13), off(), &["find in", "grant the rights"]),
        ("admin", failing(&["aggregate"], 13), off(), &["aggregate of", "grant the rights"]),
        ("admin", failing(&["createIndexes"], 13), off(), &["createIndexes of", "grant the rights"]),
        (
            "admin",
            doc! { "fsync": 1, "lock": true },
            doc! { "fsyncUnlock": 1 },
            &["fsyncLock", "db.fsyncUnlock()"],
        ),
        (
            "godzilla",
            doc! { "create": "messages", "validator": { "nope": { "$exists": true } } },
            doc! { "drop": "messages" },
            &["validator", "collMod"],
        ),
        (
            "godzilla",
            doc! { "create": "users", "viewOn": "x", "pipeline": [] },
            doc! { "drop": "users" },
            &["a view", "users", "drop it"],
        ),
        (
            "godzilla",
            doc! { "create": "rooms", "capped": true, "size": 4096 },
            doc! { "drop": "rooms" },
            &["capped", "rooms", "drop it"],
        ),
        (
            "godzilla",
            doc! { "create": "changes", "timeseries": { "timeField": "t" } },
            doc! { "drop": "changes" },
            &["a time series", "changes", "drop it"],
        ),
        (
            "godzilla",
            doc! { "createIndexes": "messages", "indexes": [{ "key": { "foo": 1 }, "name": "foo_1", "unique": true }] },
            doc! { "drop": "messages" },
            &["unique index", "foo_1", "drop it"],
        ),
    ]
}

#[tokio::test]
async fn a_mongodb_that_refuses_what_a_role_does_is_reported() {
    let stores = Stores::start().await;
    stores.check_clean("at first").await;
    for (database, fault, remedy, words) in faults() {
        run(&stores, database, fault.clone()).await;
        for role in ["accounts", "chat"] {
            let output = stores.doctor(role);
            let printed = text(&output);
            assert!(printed.contains("error: MongoDB: "), "{role}, {fault}: {printed}");
            check_finding(&output, "error: MongoDB: ", words);
        }
        run(&stores, database, remedy).await;
    }
    for fault in [MongoFault::Full, MongoFault::Forbidden, MongoFault::Hangs] {
        stores.mongo.fail_writes(fault).await;
        check_finding(&stores.doctor("chat"), "error: MongoDB: ", &[fault.word()]);
        stores.mongo.restore_writes().await;
    }
    stores.check_clean("at the end").await;
}

#[tokio::test]
async fn an_address_of_a_store_that_cannot_work_is_refused_by_the_start_and_the_doctor_in_the_same_words() {
    let stores = Stores::start().await;
    let (mongo, redis) = (stores.mongo.uri(), stores.redis.url());
    let other = |name: &str| mongo.replace("/godzilla?", &format!("/{name}?"));
    let with = |option: &str| format!("{mongo}&{option}");
    // The address of MongoDB, that of Redis, and the words.
    let table = [
        (other("local"), redis.clone(), "the database local belongs to MongoDB itself"),
        (other("admin"), redis.clone(), "the database admin belongs to MongoDB itself"),
        (other("config"), redis.clone(), "the database config belongs to MongoDB itself"),
        (other("a.b"), redis.clone(), "name of the database is not valid"),
        (other(&"x".repeat(70)), redis.clone(), "at most 63 bytes"),
        (with("readPreference=secondary"), redis.clone(), "readPreference must be primary"),
        (with("compressors=zstd"), redis.clone(), "the option compressors"),
        (with("timeoutMS=1"), redis.clone(), "the option timeoutMS"),
        (with("heartbeatFrequencyMS=100"), redis.clone(), "the option heartbeatFrequencyMS"),
        (
            "mongodb://%2Ftmp%2Fmongodb.sock/godzilla".to_owned(),
            redis.clone(),
            "Unix sockets are not supported",
        ),
        (mongo.clone(), "unix:///tmp/redis.sock".to_owned(), "Unix sockets are not supported"),
        (mongo.clone(), "redis+unix:///tmp/redis.sock".to_owned(), "Unix sockets are not supported"),
        (mongo.clone(), "redis-sentinel://127.0.0.1:26379/main".to_owned(), "Sentinel is not supported"),
    ];
    let key = stores.folder.path().join("key");
    let key = key.to_string_lossy();
    for (mongo, redis, words) in &table {
        for role in ["accounts", "chat"] {
            let output = stores.examine(role, mongo, redis);
            check_finding(&output, "error: ", &[words]);
            let arguments = [role, "--mongo-uri", mongo, "--redis-url", redis, "--secret-file", &key];
            let addresses = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
            let started = crate::config::run(&[&arguments[..], &addresses].concat(), &[]);
            assert_eq!(started.status.code(), Some(2), "{role} {mongo} {redis}: {}", text(&started));
            assert!(text(&started).contains(words), "{role} {mongo} {redis}: {}", text(&started));
        }
    }
}

#[tokio::test]
async fn rooms_of_an_earlier_release_are_reported_for_chat_nodes() {
    let stores = Stores::start().await;
    let room = doc! {"_id": "tea", "members": [{"username": "alice"}], "version": 1_i64};
    stores.database().await.collection("rooms").insert_one(room).await.expect("MongoDB stores it");
    let words = ["earlier release", "stop all chat nodes", "`godzilla migrate --up`"];
    check_finding(&stores.doctor("chat"), "error: MongoDB: ", &words);
    assert!(!text(&stores.doctor("accounts")).contains("MongoDB: "));
}
