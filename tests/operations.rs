//! Starting, stopping and watching the program as those who run it do.

use std::{
    process::{Output, Stdio},
    time::{Duration, Instant},
};

use crate::stage::{Request, Stage, program};

#[tokio::test]
async fn asked_to_stop_it_closes_its_sockets_so_that_clients_come_back_and_ends_with_0() {
    let mut stage = Stage::opens().await;
    let mut alice = stage.enters("alice").await;
    let said = alice.says("before the stop").await;

    let (ending, status) = tokio::join!(alice.ends(), stage.server.is_asked_to_stop());
    assert!(status.success(), "{status}");
    // Not packet 41: after that the stock client would stay away.
    assert_eq!((ending.left, ending.code), (false, Some(1001)));

    stage.server.returns().await;
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

#[test]
fn a_wrong_configuration_is_refused_at_once_by_its_key_and_without_its_value() {
    for (key, value) in [
        ("--listen", "not-an-address-hunter2"),
        ("--bcrypt-cost", "hunter2"),
        ("--bcrypt-cost", "99"),
        ("--admin-listen", "hunter2:x"),
        ("--no-such-flag", "hunter2"),
    ] {
        let output = fails(&["serve", key, value]);
        let text =
            String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert!(text.contains(key), "{key} is not named in: {text}");
        assert!(!text.contains("hunter2"), "the value is shown: {text}");
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
    let output = fails(&[&arguments[..], &["--data-dir", &folder]].concat());
    let text =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(text.contains(&address) && text.to_lowercase().contains("in use"), "{text}");
}

#[tokio::test]
async fn healthcheck_says_by_its_status_whether_a_server_is_ready() {
    let stage = Stage::opens().await;
    let check = |address: String| {
        program().args(["healthcheck", "--admin-listen", &address]).output().expect("the program runs")
    };
    let output = check(stage.server.admin.to_string());
    assert!(output.status.success(), "{output:?}");
    assert!(!check("127.0.0.1:1".into()).status.success());
}

/// Runs the program, which must refuse within two seconds.
fn fails(arguments: &[&str]) -> Output {
    let started = Instant::now();
    let mut child = program()
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs");
    while child.try_wait().expect("our own child").is_none() {
        if started.elapsed() > Duration::from_secs(2) {
            let _ = child.kill();
            panic!("still running after 2 s with {arguments:?}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = child.wait_with_output().expect("our own child");
    assert!(!output.status.success(), "{arguments:?} was accepted");
    output
}
