//! A real redis-server.

use std::process::{Child, Command};

use tempfile::TempDir;

use crate::{freeze, signal, start, start_anywhere};

/// What the roles may do, as `scripts/secrets` says it for every deployment.
const RIGHTS: &str = "~* &* +@all -@admin -@dangerous +info +config|get";

/// A running redis-server. The program is `TESTBED_REDIS`, else `redis-server`.
pub struct Redis {
    port: u16,
    directory: TempDir,
    /// Whether it logs every write before it answers.
    durable: bool,
    child: Child,
}

impl Redis {
    /// Starts an empty one.
    pub fn start() -> Self {
        Self::with(true)
    }

    /// Starts an empty one that forgets everything in a crash.
    pub fn start_forgetful() -> Self {
        Self::with(false)
    }

    fn with(durable: bool) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let (port, child) = start_anywhere(|port| server(port, &directory, durable));
        Self { port, directory, durable, child }
    }

    /// Its address as the roles are given it: of a user who may not configure or stop it.
    pub fn url(&self) -> String {
        format!("redis://godzilla:secret@127.0.0.1:{}/0", self.port)
    }

    /// Its address as administrators have it.
    pub fn admin_url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// Kills it as a crash would.
    pub fn crashes(&mut self) {
        self.child.kill().expect("our own child");
        self.child.wait().expect("our own child");
    }

    /// Starts it again, on the same port and data.
    pub fn returns(&mut self) {
        let again = start(server(self.port, &self.directory, self.durable), self.port);
        self.child = again.expect("its port is still free");
    }

    /// Stops it in its tracks: connections stay, nothing is answered.
    pub fn freezes(&self) {
        freeze(&self.child);
    }

    /// Lets it go on.
    pub fn thaws(&self) {
        signal(&self.child, "CONT");
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn server(port: u16, directory: &TempDir, durable: bool) -> Command {
    let given = std::env::var_os("TESTBED_REDIS").filter(|given| !given.is_empty());
    let mut command = Command::new(given.unwrap_or_else(|| "redis-server".into()));
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir"]).arg(directory.path());
    command.args(["--appendonly", if durable { "yes" } else { "no" }, "--appendfsync", "always"]);
    command.args(["--save", "", "--loglevel", "warning", "--user", "godzilla", "on", ">secret"]);
    command.args(RIGHTS.split(' '));
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_roles_may_here_what_they_may_in_a_deployment() {
        assert!(include_str!("../../scripts/secrets").contains(&format!("user godzilla on >%s {RIGHTS}\\n")));
    }
}
