//! Signals during the start of a role: while its stores do not answer, and while they are opened.

use std::{fs, net::TcpListener, process::Command, time::Duration};

use tempfile::TempDir;

use super::{Role, key_file};
use crate::support::{program, with_timeout};

#[tokio::test]
async fn a_role_whose_stores_never_answer_ends_on_sigterm() {
    // Connections are accepted by the system and never answered.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let silent = silent.local_addr().map(|address| (silent, address)).expect("a bound socket");
    let (mongo, redis) =
        (format!("mongodb://{}/?replicaSet=rs0", silent.1), format!("redis://{}/0", silent.1));
    let (gone_mongo, gone_redis) = ("mongodb://127.0.0.1:1/?replicaSet=rs0", "redis://127.0.0.1:1/0");
    let key = key_file();
    let key = key.path().to_string_lossy();
    for name in ["gateway", "accounts", "chat"] {
        for (mongo, redis) in [(&*mongo, &*redis), (&*mongo, gone_redis), (gone_mongo, &*redis)] {
            let mut role = Role::start_on(name, mongo, redis, &key).await;
            let cause = if redis == gone_redis { "refuses connections" } else { "does not answer" };
            role.wait_for_readiness(&format!("{name} on {mongo} and {redis}"), 503, &["Redis", cause]).await;
            role.stop_in_time();
        }
    }
    let set = ["run", "--roles", "gateway,accounts,chat,presence"];
    let addresses = [
        "--accounts-listen",
        "127.0.0.1:0",
        "--chat-listen",
        "127.0.0.1:0",
        "--presence-listen",
        "127.0.0.1:0",
    ];
    let stores = ["--mongo-uri", &mongo, "--redis-url", &redis, "--secret-file", &key, "--node", "one"];
    let mut all = Role::start_unready(set[0], &[&set[1..], &addresses, &stores].concat());
    all.wait_for_admin().await;
    all.wait_for_readiness("all roles", 503, &["Redis does not answer"]).await;
    all.stop_in_time();
}

/// The program that this strace runs.
fn traced(strace: u32) -> Option<String> {
    let children = fs::read_to_string(format!("/proc/{strace}/task/{strace}/children")).ok()?;
    children.split_whitespace().next().map(str::to_owned)
}

/// The exit status of a process that has ended, as `wait` returns it. `None` while it runs.
fn exit_status(process: &str) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    let has_ended = fields.starts_with('Z');
    fields.split_whitespace().last().filter(|_| has_ended)?.parse().ok()
}

#[tokio::test]
async fn serve_answers_and_ends_on_sigterm_while_its_disk_hangs_during_the_start() {
    let data = TempDir::new().expect("a temporary directory");
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync"]);
    // Longer than the test.
    command.args(["-e", "inject=fsync,fdatasync:delay_enter=600000000"]).arg(program().get_program());
    let folder = data.path().join("data");
    let folder = folder.to_str().expect("a UTF-8 path");
    let mut serve =
        Role::spawn(command, "serve", &["--presence-listen", "127.0.0.1:0", "--data-dir", folder]);
    serve.wait_for_admin().await;
    serve.wait_for_readiness("serve", 503, &["starting"]).await;
    assert_eq!(serve.admin("/livez").await.0, 200);
    let program = traced(serve.child.id()).expect("strace runs the program");
    assert!(Command::new("kill").args(["-TERM", &program]).status().expect("kill is installed").success());
    // strace itself waits for the end of the delay.
    let status = with_timeout("the end of the process", async {
        loop {
            if let Some(status) = exit_status(&program) {
                break status;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    assert_eq!(status.await, 0);
    let log = fs::read_to_string(serve.log.path()).expect("a log");
    assert!(log.contains("stopped before the stores are open"), "{log}");
}
