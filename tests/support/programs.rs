//! Programs of other projects that act as clients: Node, Python and others, where `scripts/test` installed them, or on the PATH.

use std::{
    ffi::{OsStr, OsString},
    path::PathBuf,
    process::Stdio,
    time::Duration,
};

use tokio::process::Command;

/// The time limit of a client program: it starts an interpreter and compiles its packages on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(120);

/// A command that runs a script of `tests/interop` on Node.
pub fn node(script: &str) -> Command {
    let mut command = Command::new(env_path("INTEROP_NODE").unwrap_or_else(|| "node".into()));
    command.arg(folder().join(script));
    command
}

/// Runs a Python script of `tests/interop`.
pub async fn run_python(script: &str, args: &[&str]) {
    let mut command = python();
    command.arg(folder().join(script)).args(args);
    run_to_end(script, command).await;
}

/// A command of Python with the packages of `tests/interop`.
pub fn python() -> Command {
    Command::new(tool("INTEROP_PYTHON", "bin/python", "python3"))
}

/// Runs a program to its end; it must succeed. Returns its standard output; the panic shows all output.
pub async fn run_to_end(name: &str, mut command: Command) -> String {
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = match tokio::time::timeout(TIMEOUT, command.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => {
            panic!("{name} did not start ({error}): scripts/test installs what this test needs")
        }
        Err(_) => panic!("{name} did not end within {TIMEOUT:?}"),
    };
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(
        output.status.success(),
        "{name}: {} (if a package is missing: scripts/test installs what this test needs)\n{out}\n{err}",
        output.status
    );
    out.into_owned()
}

/// The path of a tool: from the environment, else from the virtual environment of `scripts/test`, else from the PATH.
pub fn tool(variable: &str, installed: &str, otherwise: &str) -> OsString {
    let installed = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/interop").join(installed);
    env_path(variable)
        .or_else(|| installed.exists().then(|| installed.into_os_string()))
        .unwrap_or_else(|| otherwise.into())
}

/// A path in the environment.
pub fn env_path(variable: impl AsRef<OsStr>) -> Option<OsString> {
    std::env::var_os(variable).filter(|value| !value.is_empty())
}

/// The folder of the scripts.
pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/interop")
}
