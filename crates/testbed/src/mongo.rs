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

/// Ways in which a MongoDB refuses writes and answers reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Its disk is full.
    Full,
    /// The user has lost the right to write.
    Forbidden,
    /// A majority of the replica set does not confirm.
    NoMajority,
    /// Writes have no answer.
    Hangs,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Full, Self::Forbidden, Self::NoMajority, Self::Hangs];

    /// A word of the cause that operators must find.
    pub fn word(self) -> &'static str {
        match self {
            Self::Full => "disk space",
            Self::Forbidden => "rights",
            Self::NoMajority | Self::Hangs => "majority",
        }
    }
}

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

    /// From now on every write fails in this way, and reads succeed.
    pub async fn refuses_writes(&self, how: Fault) {
        let mut data = doc! { "failCommands": ["insert", "update", "findAndModify", "delete"] };
        match how {
            Fault::Full => data.insert("errorCode", 14_031),
            Fault::Forbidden => data.insert("errorCode", 13),
            Fault::NoMajority => data.insert(
                "writeConcernError",
                doc! { "code": 64, "errmsg": "waiting for replication timed out" },
            ),
            Fault::Hangs => {
                data.insert("blockConnection", true);
                data.insert("blockTimeMS", 30_000)
            }
        };
        let fault = doc! { "configureFailPoint": "failCommand", "mode": "alwaysOn", "data": data };
        self.asks(fault).await.expect("test commands are enabled");
    }

    /// Takes writes again.
    pub async fn accepts_writes(&self) {
        let end = doc! { "configureFailPoint": "failCommand", "mode": "off" };
        self.asks(end).await.expect("test commands are enabled");
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
    command.args(["--setParameter", "enableTestCommands=1"]);
    command.args(["--oplogSize", "64", "--quiet", "--dbpath"]).arg(directory.path());
    command
}
