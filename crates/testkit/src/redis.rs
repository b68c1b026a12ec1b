//! A real redis-server.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, TcpStream},
    process::{Child, Command},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{START_TIMEOUT, signal, start, start_on_free_port, stop_process};

/// The permissions of the roles, as in `scripts/secrets` for every deployment.
const PERMISSIONS: &str = "~* &* +@all -@admin -@dangerous +info +config|get";

/// A running redis-server. The program is `TESTBED_REDIS` if set, else `redis-server`.
pub struct Redis {
    port: u16,
    directory: TempDir,
    /// Whether every write is persisted before it is acknowledged.
    durable: bool,
    child: Child,
}

impl Redis {
    /// Starts an empty server with persistence.
    pub fn start() -> Self {
        Self::with(true)
    }

    /// Starts an empty server that loses all data when it is killed.
    pub fn start_volatile() -> Self {
        Self::with(false)
    }

    fn with(durable: bool) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let (port, child) = start_on_free_port(|port| server(port, &directory, durable));
        Self { port, directory, durable, child }
    }

    /// The URL for the roles, with a user that may not configure or stop the server.
    pub fn url(&self) -> String {
        format!("redis://godzilla:secret@127.0.0.1:{}/0", self.port)
    }

    /// The port of the server.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL for administrators.
    pub fn admin_url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// Kills the server with SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().expect("the child exists");
        self.child.wait().expect("the child exists");
    }

    /// Starts the server again on the same port and data.
    pub fn restart(&mut self) {
        let again = start(server(self.port, &self.directory, self.durable), self.port);
        self.child = again.expect("its port is still free");
    }

    /// Runs a command as administrator. Returns the first line of the reply.
    pub fn query(&self, command: &str) -> String {
        let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).expect("it accepts");
        connection.set_read_timeout(Some(START_TIMEOUT)).expect("a setting");
        connection.write_all(format!("{command}\r\n").as_bytes()).expect("the server reads commands");
        let mut reply = String::new();
        BufReader::new(connection).read_line(&mut reply).expect("it replies");
        reply.trim_end().to_owned()
    }

    /// Runs a command that must succeed.
    pub fn execute(&self, command: &str) {
        let reply = self.query(command);
        assert!(!reply.starts_with('-'), "{command}: {reply}");
    }

    /// Makes saving to disk fail, by a directory in place of the file, or succeed again.
    fn set_can_save(&self, can_save: bool) {
        let path = self.directory.path().join("dump.rdb");
        let result = if can_save { fs::remove_dir(path) } else { fs::create_dir(path) };
        result.expect("the directory exists");
    }

    /// Stops the server with SIGSTOP: connections stay open without answers.
    pub fn pause(&self) {
        stop_process(&self.child);
    }

    /// Continues a stopped server.
    pub fn resume(&self) {
        signal(&self.child, "CONT");
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Ways in which a Redis rejects writes and answers reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedisFault {
    /// The memory limit is reached.
    Full,
    /// The server is a replica.
    Demoted,
    /// The server has too few replicas.
    Alone,
    /// The server cannot save to disk.
    NoDisk,
    /// The roles have no write permission.
    Forbidden,
}

impl RedisFault {
    /// All variants.
    pub const ALL: [Self; 5] = [Self::Full, Self::Demoted, Self::Alone, Self::NoDisk, Self::Forbidden];

    /// Makes `redis` reject writes.
    pub fn inject(self, redis: &Redis) {
        match self {
            Self::Full => redis.execute("CONFIG SET maxmemory 1"),
            Self::Demoted => redis.execute("REPLICAOF 127.0.0.1 1"),
            Self::Alone => redis.execute("CONFIG SET min-replicas-to-write 3"),
            Self::NoDisk => {
                redis.set_can_save(false);
                redis.execute("CONFIG SET save \"3600 1000000\"");
                redis.save_until(false);
            }
            Self::Forbidden => redis.execute("ACL SETUSER godzilla -@write"),
        }
    }

    /// Makes `redis` accept writes again.
    pub fn clear(self, redis: &Redis) {
        match self {
            Self::Full => redis.execute("CONFIG SET maxmemory 0"),
            Self::Demoted => redis.execute("REPLICAOF NO ONE"),
            Self::Alone => redis.execute("CONFIG SET min-replicas-to-write 0"),
            Self::NoDisk => {
                redis.set_can_save(true);
                redis.save_until(true);
            }
            Self::Forbidden => redis.execute(&format!("ACL SETUSER godzilla {PERMISSIONS}")),
        }
    }
}

impl Redis {
    /// Saves in the background until a save has failed or succeeded, and writes are rejected or accepted.
    fn save_until(&self, succeeds: bool) {
        let deadline = Instant::now() + START_TIMEOUT;
        while self.query("SET testkit:written 1").starts_with("-MISCONF") == succeeds {
            assert!(Instant::now() < deadline, "saving has an unexpected outcome");
            self.query("BGSAVE");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn server(port: u16, directory: &TempDir, durable: bool) -> Command {
    let configured = std::env::var_os("TESTBED_REDIS").filter(|configured| !configured.is_empty());
    let mut command = Command::new(configured.unwrap_or_else(|| "redis-server".into()));
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir"]).arg(directory.path());
    command.args(["--appendonly", if durable { "yes" } else { "no" }, "--appendfsync", "always"]);
    command.args(["--save", "", "--loglevel", "warning", "--user", "godzilla", "on", ">secret"]);
    command.args(PERMISSIONS.split(' '));
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_roles_have_the_permissions_of_a_deployment() {
        assert!(
            include_str!("../../../scripts/secrets")
                .contains(&format!("user godzilla on >%s {PERMISSIONS}\\n"))
        );
    }
}
