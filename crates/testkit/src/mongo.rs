//! A real mongod as a replica set of one member: majority writes require a replica set.

use std::{
    process::{Child, Command},
    time::{Duration, Instant},
};

use mongodb::{
    Client,
    bson::{Document, doc},
    options::ClientOptions,
};
use tempfile::TempDir;

use crate::{START_TIMEOUT, signal, start, start_on_free_port, stop_process};

/// A running mongod. The program is `TESTBED_MONGOD` if set, else `mongod`.
pub struct Mongo {
    port: u16,
    directory: TempDir,
    child: Child,
}

impl Mongo {
    /// Starts an empty server and waits until it accepts writes.
    pub async fn start() -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let (port, child) = start_on_free_port(|port| server(port, &directory));
        let mongo = Self { port, directory, child };
        let host = format!("127.0.0.1:{port}");
        let members = doc! { "_id": "rs0", "members": [{ "_id": 0, "host": host }] };
        mongo.run_command(doc! { "replSetInitiate": members }).await.expect("the replica set is new");
        mongo.wait_until_writable().await;
        mongo
    }

    /// The connection string for clients.
    pub fn uri(&self) -> String {
        format!("mongodb://127.0.0.1:{}/godzilla?replicaSet=rs0", self.port)
    }

    /// Kills the server with SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().expect("the child exists");
        self.child.wait().expect("the child exists");
    }

    /// Starts the server again on the same port and data, and waits until it accepts writes.
    pub async fn restart(&mut self) {
        let again = start(server(self.port, &self.directory), self.port);
        self.child = again.expect("its port is still free");
        self.wait_until_writable().await;
    }

    /// Makes the primary step down, and waits until the set has a primary again.
    pub async fn step_down(&self) {
        // The command may close its own connection.
        let _ = self.run_command(doc! { "replSetStepDown": 1, "force": true }).await;
        self.wait_until_writable().await;
    }

    /// Stops the server with SIGSTOP: connections stay open without answers.
    pub fn pause(&self) {
        stop_process(&self.child);
    }

    /// Continues a stopped server.
    pub fn resume(&self) {
        signal(&self.child, "CONT");
    }

    async fn wait_until_writable(&self) {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let hello = self.run_command(doc! { "hello": 1 }).await;
            if hello.is_ok_and(|hello| hello.get_bool("isWritablePrimary").unwrap_or(false)) {
                return;
            }
            assert!(Instant::now() < deadline, "mongod accepts no writes after {START_TIMEOUT:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Runs a command directly on mongo server.
    async fn run_command(&self, command: Document) -> mongodb::error::Result<Document> {
        let uri = format!("mongodb://127.0.0.1:{}/?directConnection=true", self.port);
        let client = Client::with_options(ClientOptions::parse(uri).await?)?;
        client.database("admin").run_command(command).await
    }
}

impl Drop for Mongo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn server(port: u16, directory: &TempDir) -> Command {
    let configured = std::env::var_os("TESTBED_MONGOD").filter(|configured| !configured.is_empty());
    let mut command = Command::new(configured.unwrap_or_else(|| "mongod".into()));
    command.args(["--port", &port.to_string(), "--bind_ip", "127.0.0.1", "--replSet", "rs0"]);
    command.args(["--networkMessageCompressors", "disabled", "--wiredTigerCacheSizeGB", "0.25"]);
    command.args(["--setParameter", "enableTestCommands=1"]);
    command.args(["--oplogSize", "64", "--quiet", "--dbpath"]).arg(directory.path());
    command
}
