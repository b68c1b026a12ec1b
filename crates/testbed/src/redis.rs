//! A real redis-server.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, TcpStream},
    process::{Child, Command},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{PATIENCE, freeze, signal, start, start_anywhere};

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

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
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

    /// Runs a command as an administrator, and answers with the first line of the reply.
    pub fn runs(&self, command: &str) -> String {
        let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).expect("it accepts");
        connection.set_read_timeout(Some(PATIENCE)).expect("a setting");
        connection.write_all(format!("{command}\r\n").as_bytes()).expect("it takes commands");
        let mut reply = String::new();
        BufReader::new(connection).read_line(&mut reply).expect("it replies");
        reply.trim_end().to_owned()
    }

    /// Runs a command that must succeed.
    pub fn does(&self, command: &str) {
        let reply = self.runs(command);
        assert!(!reply.starts_with('-'), "{command}: {reply}");
    }

    /// Makes saving to its disk fail, by a directory in the place of the file; or succeed again.
    fn can_save(&self, can: bool) {
        let path = self.directory.path().join("dump.rdb");
        let done = if can { fs::remove_dir(path) } else { fs::create_dir(path) };
        done.expect("our own directory");
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

/// Ways in which a Redis refuses writes and answers reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Its memory is used up.
    Full,
    /// It was made a replica.
    Demoted,
    /// It lacks replicas.
    Alone,
    /// It cannot save to its disk.
    NoDisk,
    /// The roles have lost the right to write.
    Forbidden,
}

impl Refusal {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Full, Self::Demoted, Self::Alone, Self::NoDisk, Self::Forbidden];

    /// Makes `redis` refuse writes.
    pub fn begins(self, redis: &Redis) {
        match self {
            Self::Full => redis.does("CONFIG SET maxmemory 1"),
            Self::Demoted => redis.does("REPLICAOF 127.0.0.1 1"),
            Self::Alone => redis.does("CONFIG SET min-replicas-to-write 3"),
            Self::NoDisk => {
                redis.can_save(false);
                redis.does("CONFIG SET save \"3600 1000000\"");
                redis.saves(false);
            }
            Self::Forbidden => redis.does("ACL SETUSER godzilla -@write"),
        }
    }

    /// Makes `redis` take writes again.
    pub fn ends(self, redis: &Redis) {
        match self {
            Self::Full => redis.does("CONFIG SET maxmemory 0"),
            Self::Demoted => redis.does("REPLICAOF NO ONE"),
            Self::Alone => redis.does("CONFIG SET min-replicas-to-write 0"),
            Self::NoDisk => {
                redis.can_save(true);
                redis.saves(true);
            }
            Self::Forbidden => redis.does(&format!("ACL SETUSER godzilla {RIGHTS}")),
        }
    }

    /// A word of the cause that operators must find.
    pub fn word(self) -> &'static str {
        match self {
            Self::Full => "maxmemory",
            Self::Demoted => "replica",
            Self::Alone => "min-replicas-to-write",
            Self::NoDisk => "disk",
            Self::Forbidden => "rights",
        }
    }
}

impl Redis {
    /// Saves in the background until that has failed or succeeded, and writes are refused or taken.
    fn saves(&self, succeeds: bool) {
        let until = Instant::now() + PATIENCE;
        while self.runs("SET testbed:written 1").starts_with("-MISCONF") == succeeds {
            assert!(Instant::now() < until, "saving does not end as it should");
            self.runs("BGSAVE");
            std::thread::sleep(Duration::from_millis(20));
        }
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
        assert!(
            include_str!("../../../scripts/secrets").contains(&format!("user godzilla on >%s {RIGHTS}\\n"))
        );
    }
}
