//! The embedded store of a running server while its files, its disk or its history change, and the tools that copy and check
//! it.

mod backups;
mod running;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Request, Socket, TestServer, TestUser, program, with_timeout};

const FILES: [&str; 3] = ["users.sqlite3", "sessions.sqlite3", "chat.sqlite3"];

/// Runs a tool on a data directory; `before` is shell code in front of the command.
fn tool(before: &str, arguments: &[&str], data: &Path) -> Output {
    let tool = program();
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("{before} \"$0\" \"$@\"")).arg(tool.get_program()).args(arguments);
    shell.arg("--data-dir").arg(data).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    shell.output().expect("the tool starts")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
}

/// Waits until `/readyz` reports 503, and returns its message.
async fn not_ready_reason(server: &TestServer) -> String {
    with_timeout("not ready", async {
        loop {
            let answer = Request::get("/readyz").send([127, 0, 0, 1].into(), server.system.admin).await;
            if answer.status == 503 {
                return answer.json()["message"].as_str().unwrap_or_default().to_owned();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}

async fn try_to_send(socket: &mut Socket, text: &str) -> Value {
    socket.emit_with_ack("message", &json!({"text": text})).await
}

async fn reconnect(user: &TestUser, pid: &str, offset: Option<String>) -> Socket {
    let auth = json!({"pid": pid, "offset": offset});
    user.try_connect(user.handshake().auth(auth)).await.unwrap_or_else(|why| panic!("{}: {why:?}", user.name))
}

/// The data directory of a stopped server with some messages.
async fn stopped() -> (TempDir, PathBuf) {
    let mut server = TestServer::start().await;
    let mut alice = server.connected_user("alice").await;
    for number in 1..=9 {
        alice
            .send_message_to(
                "lobby",
                &format!("a text that is long enough to be found in the file: {number}"),
            )
            .await;
    }
    assert!(server.system.stop().await.success());
    let root = TempDir::new().expect("a temporary directory");
    let data = root.path().join("data");
    copy(&server.system.data_dir(), &data);
    (root, data)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("a new directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("a file");
        fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
    }
}

fn names(data: &Path) -> Vec<String> {
    let entries = fs::read_dir(data).expect("a directory").map(|entry| entry.expect("a file").file_name());
    let mut names: Vec<String> = entries.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
