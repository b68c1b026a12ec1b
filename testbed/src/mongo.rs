//! A real mongod: a replica set of one, because only those keep the promises of majority writes.

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

use crate::{PATIENCE, freeze, signal, start, start_anywhere};

/// A running mongod. The program is `TESTBED_MONGOD`, else `mongod`.
pub struct Mongo {
    port: u16,
    directory: TempDir,
    child: Child,
}

impl Mongo {
    /// Starts an empty one and waits until it takes writes.
    pub async fn start() -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let (port, child) = start_anywhere(|port| server(port, &directory));
        let this = Self { port, directory, child };
        let host = format!("127.0.0.1:{port}");
        let members = doc! { "_id": "rs0", "members": [{ "_id": 0, "host": host }] };
        this.asks(doc! { "replSetInitiate": members }).await.expect("the set is new");
        this.takes_writes().await;
        this
    }

    /// Its address as clients take it.
    pub fn uri(&self) -> String {
        format!("mongodb://127.0.0.1:{}/godzilla?replicaSet=rs0", self.port)
    }

    /// Kills it as a crash would.
    pub fn crashes(&mut self) {
        self.child.kill().expect("our own child");
        self.child.wait().expect("our own child");
    }

    /// Starts it again on the same port and data and waits until it takes writes.
    pub async fn returns(&mut self) {
        let again = start(server(self.port, &self.directory), self.port);
        self.child = again.expect("its port is still free");
        self.takes_writes().await;
    }

    /// Makes the primary step down, and waits until the set has one again.
    pub async fn steps_down(&self) {
        // It closes connections, this one perhaps among them.
        let _ = self.asks(doc! { "replSetStepDown": 1, "force": true }).await;
        self.takes_writes().await;
    }

    /// Stops it in its tracks: connections stay, nothing is answered.
    pub fn freezes(&self) {
        freeze(&self.child);
    }

    /// Lets it go on.
    pub fn thaws(&self) {
        signal(&self.child, "CONT");
    }

    async fn takes_writes(&self) {
        let until = Instant::now() + PATIENCE;
        loop {
            let hello = self.asks(doc! { "hello": 1 }).await;
            if hello.is_ok_and(|hello| hello.get_bool("isWritablePrimary").unwrap_or(false)) {
                return;
            }
            assert!(Instant::now() < until, "mongod takes no writes after {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Runs a command on this very server, whatever the set thinks of it.
    async fn asks(&self, command: Document) -> mongodb::error::Result<Document> {
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
    let given = std::env::var_os("TESTBED_MONGOD").filter(|given| !given.is_empty());
    let mut command = Command::new(given.unwrap_or_else(|| "mongod".into()));
    command.args(["--port", &port.to_string(), "--bind_ip", "127.0.0.1", "--replSet", "rs0"]);
    command.args(["--networkMessageCompressors", "disabled", "--wiredTigerCacheSizeGB", "0.25"]);
    command.args(["--oplogSize", "64", "--quiet", "--dbpath"]).arg(directory.path());
    command
}
