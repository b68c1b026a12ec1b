//! Start, stop and monitoring of the program by its operators.

use std::net::Ipv4Addr;

use testkit::Stores;
use tokio::process::Command;

use crate::{
    config::{run, text},
    roles::key_file,
    support::{Request, TestServer, program, with_timeout},
    tidy::documents::metric,
};

#[tokio::test]
async fn on_sigterm_the_server_closes_its_sockets_for_a_reconnect_and_exits_with_0() {
    let mut server = TestServer::start().await;
    let mut alice = server.connected_user("alice").await;
    let sent = alice.send_message("before the stop").await;

    let (ending, status) = tokio::join!(alice.closed(), server.system.stop());
    assert!(status.success(), "{status}");
    // No packet 41: after that packet official clients do not reconnect.
    assert_eq!((ending.left, ending.code), (false, Some(1001)));

    server.system.restart().await;
    let kept = alice.user.read_history("lobby").await;
    assert_eq!(kept[0]["id"], sent["id"]);
}

#[tokio::test]
async fn health_and_metrics_are_served_on_the_admin_address() {
    let server = TestServer::start().await;
    let alice = server.connected_user("alice").await;
    for path in ["/livez", "/readyz", "/metrics"] {
        let answer = Request::get(path).send(alice.user.source, server.system.admin).await.expect(200);
        assert!(path != "/metrics" || answer.body.contains("godzilla_"), "{answer:?}");
        alice.user.send(Request::get(path)).await.expect_refusal(404);
    }
}

#[tokio::test]
async fn a_port_in_use_is_reported() {
    let server = TestServer::start().await;
    let data = tempfile::TempDir::new().expect("a temporary directory");
    let address = server.system.address.to_string();
    let folder = data.path().to_string_lossy().into_owned();
    let arguments =
        ["serve", "--listen", &address, "--presence-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    let output = run(&[&arguments[..], &["--data-dir", &folder]].concat(), &[]);
    let printed = text(&output);
    assert!(
        !output.status.success() && printed.contains(&address) && printed.contains("in use"),
        "{printed}"
    );
}

#[tokio::test]
async fn healthcheck_exits_with_0_only_when_the_server_is_ready() {
    let server = TestServer::start().await;
    let admin = server.system.admin.to_string();
    assert!(run(&["healthcheck", "--admin-listen", &admin], &[]).status.success());
    assert!(!run(&["healthcheck", "--admin-listen", "127.0.0.1:1"], &[]).status.success());
}

#[tokio::test]
async fn doctor_reports_the_versions_of_the_stores_and_names_a_wrong_address() {
    let (stores, key) = (Stores::start().await, key_file());
    let key = key.path().to_string_lossy();
    let check = async |redis: &str, mongo: &str| {
        let mut doctor = Command::from(program());
        doctor.args(["doctor", "chat", "--secret-file", &key, "--redis-url", redis, "--mongo-uri", mongo]);
        let output = with_timeout("the end of the doctor", doctor.kill_on_drop(true).output()).await;
        let output = output.expect("the program starts");
        (output.status.code(), text(&output))
    };
    let (redis, mongo) = (stores.redis.url(), stores.mongo.uri());
    let (status, printed) = check(&redis, &mongo).await;
    assert_eq!(status, Some(0), "{printed}");
    assert!(printed.contains("\nRedis ") && printed.contains("\nMongoDB "), "{printed}");
    let nowhere = "mongodb://127.0.0.1:1/godzilla?replicaSet=rs0";
    for (redis, mongo, part) in [("redis://127.0.0.1:1/0", &*mongo, "Redis"), (&redis, nowhere, "MongoDB")] {
        let (status, printed) = check(redis, mongo).await;
        assert_eq!(status, Some(1), "{printed}");
        assert!(
            printed.contains(&format!("error: {part}: ")) && printed.contains("127.0.0.1:1"),
            "{printed}"
        );
    }
}

#[tokio::test]
async fn seed_fills_an_empty_store_and_changes_no_other_store() {
    let mut server = TestServer::start().await;
    let data = server.system.data_dir().to_string_lossy().into_owned();
    let seed = ["seed", "--bcrypt-cost", "4", "--data-dir", &data];
    server.system.kill();
    let seeded = run(&seed, &[]);
    assert!(seeded.status.success(), "{}", text(&seeded));

    server.system.restart().await;
    let mut alice = server.unregistered_user("alice");
    alice.password = "correct horse".into();
    alice.log_in().await;
    let before = alice.read_history("lobby").await;
    assert!(before.len() > 1, "{before:?}");
    alice.connect().await.send_message("hello").await;

    server.system.kill();
    let again = run(&seed, &[]);
    assert!(!again.status.success() && text(&again).contains("nothing was changed"), "{}", text(&again));
    server.system.restart().await;
    assert_eq!(alice.read_history("lobby").await.len(), before.len() + 1);
}

#[tokio::test]
async fn a_clean_stop_logs_no_warning() {
    let mut server = TestServer::start().await;
    let _alice = server.connected_user("alice").await;
    server.system.stop().await;
    let log = server.system.log();
    let (_, stop) = log.split_once("draining").expect("a log line of the stop");
    let warnings: Vec<_> =
        stop.lines().filter(|line| line.contains("WARN") || line.contains("ERROR")).collect();
    assert!(warnings.is_empty(), "{warnings:#?}");
}

/// The metrics of a running server: each has a description, and the type in docs/metrics.md.
#[tokio::test]
async fn every_metric_has_its_description_and_its_type() {
    let server = TestServer::start().await;
    let mut alice = server.connected_user("alice").await;
    alice.send_message("for the metrics of messages").await;
    let metrics =
        Request::get("/metrics").send(Ipv4Addr::LOCALHOST, server.system.admin).await.expect(200).body;
    let lines: Vec<&str> = metrics.lines().filter(|line| !line.is_empty()).collect();
    let mut described = 0;
    for pair in lines.windows(2).filter(|pair| pair[1].starts_with("# TYPE ")) {
        let (name, kind) = pair[1]["# TYPE ".len()..].split_once(' ').expect("a name and a type");
        let metric = metric::all().find(|metric| metric.name == name).expect(name);
        assert_eq!(pair[0], format!("# HELP {name} {}", metric.help));
        assert_eq!(kind, metric.kind.as_str(), "{name}");
        described += 1;
    }
    assert!(described > 15, "{metrics}");
    for batch in ["godzilla_chat_batch_posts", "godzilla_store_batch_jobs"] {
        assert!(metrics.contains(&format!("\n# TYPE {batch} histogram\n")), "{metrics}");
    }
}
