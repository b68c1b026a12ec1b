//! The description of a store that cannot be used names the cause, and not only that there is no response.

use std::{
    net::{Ipv4Addr, TcpListener},
    time::{Duration, Instant},
};

use mongodb::{
    Client,
    bson::{Document, doc},
};
use remote::{
    Redis,
    mongo::{Identity, Store, Writes, answered, collection},
    redis::AsyncCommands,
};
use testkit::{Mongo, Redis as Server};

/// The maximum time of a step on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Repeats `ask` until the cause contains `word`. The first causes on a busy machine can be timeouts.
async fn wait_for_cause(word: &str, ask: impl AsyncFn() -> Option<&'static str>) {
    let until = Instant::now() + TIMEOUT;
    loop {
        let cause = ask().await;
        if cause.is_some_and(|cause| cause.contains(word)) {
            return;
        }
        assert!(Instant::now() < until, "expected {word:?}, got {cause:?}");
    }
}

#[tokio::test]
async fn the_cause_of_an_unusable_redis_is_reported() {
    let server = Server::start();
    let unresponsive = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let unresponsive = format!("redis://{}/0", unresponsive.local_addr().expect("a bound socket"));
    let cases = [
        (server.url().replace("secret", "wrong"), "password"),
        ("redis://127.0.0.1:1/0".to_owned(), "refuses connections"),
        ("redis://no-such-host.invalid/0".to_owned(), "does not resolve"),
        (server.url().replace("/0", "/99"), "number in its address"),
        (unresponsive, "does not answer"),
    ];
    for (url, word) in cases {
        let redis = Redis::new(&url, 1).expect("an address");
        let ask = async || {
            let response = redis.ask(async |mut redis| redis.get::<_, Option<String>>("x").await).await;
            response.err().map(|error| error.not_ready_reason())
        };
        wait_for_cause(word, ask).await;
    }
}

#[tokio::test]
async fn a_redis_without_free_connections_is_reported() {
    let server = Server::start();
    // One connection for the administrator, who stays connected.
    let admin = remote::redis::Client::open(server.admin_url()).expect("an address");
    let mut admin = admin.get_multiplexed_async_connection().await.expect("a free connection");
    let set = |limit: u32| {
        let mut set = remote::redis::cmd("CONFIG");
        set.arg("SET").arg("maxclients").arg(limit);
        set
    };
    set(1).exec_async(&mut admin).await.expect("an administrator");
    let redis = Redis::new(&server.url(), 1).expect("an address");
    let until = Instant::now() + TIMEOUT;
    // The reply is lost in some attempts only, so all attempts must name the cause.
    for _ in 0..20 {
        let response = redis.ask(async |mut redis| redis.get::<_, Option<String>>("x").await).await;
        let cause = response.expect_err("no free connection").not_ready_reason();
        assert!(cause.contains("maxclients"), "{cause}");
        assert!(Instant::now() < until, "20 attempts take less");
    }
    set(100).exec_async(&mut admin).await.expect("an administrator");
    let response = redis.ask(async |mut redis| redis.get::<_, Option<String>>("x").await).await;
    assert_eq!(response.expect("a free connection"), None);
}

#[tokio::test]
async fn the_members_of_a_set_without_a_primary_are_named() {
    let mongo = Mongo::start().await;
    let client = Client::with_uri_str(format!("{}&serverSelectionTimeoutMS=1000", mongo.uri()))
        .await
        .expect("an address");
    let documents = collection::<Document>(&client.database("x"), "y");
    let ask = async || answered(documents.find_one(doc! {})).await.err().map(|error| error.description());
    assert_eq!(ask().await, None);
    mongo.step_down_for_good().await;
    let until = Instant::now() + TIMEOUT;
    loop {
        let cause = ask().await.unwrap_or_default();
        if cause.starts_with("has no primary")
            && cause.contains("127.0.0.1:")
            && cause.contains("is a secondary")
        {
            break;
        }
        assert!(Instant::now() < until, "{cause}");
    }
    mongo.elect().await;
    while ask().await.is_some() {
        assert!(Instant::now() < until + TIMEOUT, "{:?}", ask().await);
    }
}

#[tokio::test]
async fn the_cause_of_an_unusable_mongodb_is_reported() {
    let mongo = Mongo::start().await;
    let timeouts = "serverSelectionTimeoutMS=1000&connectTimeoutMS=1000";
    let user = mongo.uri().replace("mongodb://", "mongodb://user:secret@");
    let cases = [
        (format!("mongodb://127.0.0.1:1/x?replicaSet=rs0&{timeouts}"), "refuses connections"),
        (format!("mongodb://no-such-host.invalid/x?replicaSet=rs0&{timeouts}"), "does not resolve"),
        (format!("{}&{timeouts}", mongo.uri().replace("rs0", "other")), "replicaSet="),
        (format!("{user}&{timeouts}"), "password"),
    ];
    for (uri, word) in cases {
        let client = Client::with_uri_str(&uri).await.expect("an address");
        let documents = collection::<Document>(&client.database("x"), "y");
        let ask =
            async || answered(documents.find_one(doc! {})).await.err().map(|error| error.not_ready_reason());
        wait_for_cause(word, ask).await;
    }
}

/// Refusals that the check of all writes finds. Their report has the operation, the collection, the code and its name.
#[tokio::test]
async fn a_refusal_of_all_writes_is_reported_with_its_operation_and_code() {
    let mongo = Mongo::start().await;
    let client = Client::with_uri_str(mongo.uri()).await.expect("an address");
    let admin = client.database("admin");
    let run = async |command: Document| drop(admin.run_command(command).await.expect("an administrator"));
    let fail = |code: i32| {
        let data = doc! { "failCommands": ["update"], "errorCode": code };
        doc! { "configureFailPoint": "failCommand", "mode": "alwaysOn", "data": data }
    };
    let off = || doc! { "configureFailPoint": "failCommand", "mode": "off" };
    let block = |global: bool| doc! { "setUserWriteBlockMode": 1, "global": global };
    // The database `godzilla` exists.
    let here = Store::from(&client.database("godzilla"));
    Identity::new(&here).id().await.expect("MongoDB accepts writes");
    // The fault, its end, the database, and the words.
    let rows = [
        (None, None, "Godzilla", &["13297 DatabaseDifferCase", "correct the case of the name"][..]),
        (
            Some(block(true)),
            Some(block(false)),
            "godzilla",
            &["371 UserWritesBlocked", "setUserWriteBlockMode: 1, global: false"],
        ),
        (Some(fail(8_765)), Some(off()), "godzilla", &["refuses an operation", "8765"]),
        (Some(fail(13)), Some(off()), "godzilla", &["grant the rights", "13 Unauthorized"]),
        (Some(fail(10_107)), Some(off()), "godzilla", &["has no primary", "10107 NotWritablePrimary"]),
    ];
    for (fault, end, name, words) in rows {
        if let Some(fault) = fault {
            run(fault).await;
        }
        let writes = Writes::new(Store::from(&client.database(name)));
        let until = Instant::now() + TIMEOUT;
        loop {
            let reason = writes.not_ready_reason().await.unwrap_or_default();
            if words.iter().chain(&["(update of written: "]).all(|word| reason.contains(word)) {
                break;
            }
            assert!(Instant::now() < until, "expected {words:?}, got {reason:?}");
        }
        if name == "Godzilla" {
            let refused = Identity::new(&Store::from(&client.database(name))).id().await;
            let refused = refused.expect_err("another database exists");
            assert!(refused.contains("(update of stores: 13297 DatabaseDifferCase)"), "{refused}");
        }
        if let Some(end) = end {
            run(end).await;
        }
    }
}

/// Trial keys that another program has overwritten are deleted, and are no refusal.
#[tokio::test]
async fn overwritten_trial_keys_are_deleted() {
    let server = Server::start();
    let redis = Redis::new(&server.url(), 1).expect("an address");
    let commands = ["DEL", "INCR", "RPUSH", "HSET", "ZADD", "XADD", "XREAD", "XRANGE"];
    let until = Instant::now() + TIMEOUT;
    let overwritten = [
        "SET godzilla:tried:stream another-application",
        "SET godzilla:tried:hash another-application",
        "SET godzilla:tried:zset another-application",
        "SET godzilla:tried:number 1.5",
        "SET godzilla:tried:number 99999999999999999999",
        "HSET godzilla:tried:number a b",
    ];
    for command in overwritten {
        server.query("DEL godzilla:tried:number");
        server.execute(command);
        while redis.refusal(&commands).await.is_some_and(|why| why.starts_with("does not answer")) {
            assert!(Instant::now() < until, "Redis does not answer");
        }
        assert_eq!(redis.refusal(&commands).await, None, "{command}");
    }
}

/// A reply that is received and has another form is no fault of the protocol.
#[tokio::test]
async fn a_value_that_does_not_parse_is_named() {
    let server = Server::start();
    let redis = Redis::new(&server.url(), 1).expect("an address");
    for value in ["99999999999999999999", "-1", "1.5", "text"] {
        server.execute(&format!("SET number {value}"));
        let ask = async || {
            let response = redis.ask(async |mut redis| redis.get::<_, u64>("number").await).await;
            response.err().map(|error| error.not_ready_reason())
        };
        wait_for_cause("a value under a name of the roles", ask).await;
    }
}
