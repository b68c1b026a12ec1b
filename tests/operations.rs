//! Starting, stopping and watching the program as those who run it do.

use std::net::Ipv4Addr;

use crate::{
    config::{runs, text},
    stage::{Request, Stage},
};

#[tokio::test]
async fn asked_to_stop_it_closes_its_sockets_so_that_clients_come_back_and_ends_with_0() {
    let mut stage = Stage::opens().await;
    let mut alice = stage.enters("alice").await;
    let said = alice.says("before the stop").await;

    let (ending, status) = tokio::join!(alice.ends(), stage.server.is_asked_to_stop());
    assert!(status.success(), "{status}");
    // Not packet 41: after that the stock client would stay away.
    assert_eq!((ending.left, ending.code), (false, Some(1001)));

    stage.server.restart().await;
    let kept = alice.person.reads_all("lobby").await;
    assert_eq!(kept[0]["id"], said["id"]);
}

#[tokio::test]
async fn health_and_metrics_are_on_their_own_address() {
    let stage = Stage::opens().await;
    let alice = stage.enters("alice").await;
    for path in ["/livez", "/readyz", "/metrics"] {
        let answer = Request::get(path).send(alice.person.home, stage.server.admin).await.expect(200);
        assert!(path != "/metrics" || answer.body.contains("godzilla_"), "{answer:?}");
        alice.person.sends(Request::get(path)).await.expect_refusal(404);
    }
}

#[tokio::test]
async fn a_port_in_use_is_said_in_so_many_words() {
    let stage = Stage::opens().await;
    let data = tempfile::TempDir::new().expect("a temporary directory");
    let address = stage.server.address.to_string();
    let folder = data.path().to_string_lossy().into_owned();
    let arguments =
        ["serve", "--listen", &address, "--presence-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    let output = runs(&[&arguments[..], &["--data-dir", &folder]].concat(), &[]);
    let said = text(&output);
    assert!(!output.status.success() && said.contains(&address) && said.contains("in use"), "{said}");
}

#[tokio::test]
async fn healthcheck_says_by_its_status_whether_a_server_is_ready() {
    let stage = Stage::opens().await;
    let admin = stage.server.admin.to_string();
    assert!(runs(&["healthcheck", "--admin-listen", &admin], &[]).status.success());
    assert!(!runs(&["healthcheck", "--admin-listen", "127.0.0.1:1"], &[]).status.success());
}

#[tokio::test]
async fn seed_fills_an_empty_store_with_people_who_chat_and_touches_no_other() {
    let mut stage = Stage::opens().await;
    let data = stage.server.data_dir().to_string_lossy().into_owned();
    let seed = ["seed", "--bcrypt-cost", "4", "--data-dir", &data];
    stage.server.kill();
    let seeded = runs(&seed, &[]);
    assert!(seeded.status.success(), "{}", text(&seeded));

    stage.server.restart().await;
    let mut alice = stage.stranger("alice");
    alice.password = "correct horse".into();
    alice.logs_in().await;
    let before = alice.reads_all("lobby").await;
    assert!(before.len() > 1, "{before:?}");
    alice.connects().await.says("good to be here").await;

    stage.server.kill();
    let again = runs(&seed, &[]);
    assert!(!again.status.success() && text(&again).contains("nothing was changed"), "{}", text(&again));
    stage.server.restart().await;
    assert_eq!(alice.reads_all("lobby").await.len(), before.len() + 1);
}

#[tokio::test]
async fn a_clean_stop_is_no_reason_to_warn() {
    let mut stage = Stage::opens().await;
    let _alice = stage.enters("alice").await;
    stage.server.is_asked_to_stop().await;
    let log = stage.server.log();
    let (_, stop) = log.split_once("draining").expect("the log says that it stops");
    let warnings: Vec<_> =
        stop.lines().filter(|line| line.contains("WARN") || line.contains("ERROR")).collect();
    assert!(warnings.is_empty(), "{warnings:#?}");
}

#[tokio::test]
async fn a_load_balancer_with_a_public_address_that_is_not_trusted_is_named_once() {
    let stage = Stage::opens_with(&["--trusted-proxy", "127.0.0.1"]).await;
    for client in 1..=40 {
        let chain = format!("198.51.100.{client}, 203.0.113.80");
        let request = Request::get("/user/me").header("X-Forwarded-For", &chain);
        request.send(Ipv4Addr::LOCALHOST, stage.server.address).await.expect_refusal(401);
        // A client that names one address before itself is none.
        let forged = Request::get("/user/me").header("X-Forwarded-For", "1.1.1.1, 203.0.113.9");
        forged.send(Ipv4Addr::LOCALHOST, stage.server.address).await.expect_refusal(401);
    }
    stage.server.has_logged("203.0.113.80 names clients of its own").await;
    let log = stage.server.log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("names clients of its own")).collect();
    assert!(lines.len() == 1 && lines[0].contains("--trusted-proxy"), "{lines:#?}");
}
