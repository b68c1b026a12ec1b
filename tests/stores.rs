//! The embedded store of a running server: its disk, its clean stop, and the tools that copy and check it.

mod backups;
mod running;

use std::{
    path::Path,
    process::{Command, Output},
};

use serde_json::json;

use crate::support::{Socket, TestUser, program};

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

async fn reconnect(user: &TestUser, pid: &str, offset: Option<String>) -> Socket {
    let auth = json!({"pid": pid, "offset": offset});
    user.try_connect(user.handshake().auth(auth)).await.unwrap_or_else(|why| panic!("{}: {why:?}", user.name))
}
