//! The unmodified official client on Node, driven by one command per line, so that a test decides when it drops and reconnects.
//! Used by `recovery`; the other end is `tests/interop/official_client.mjs`.

use std::{collections::VecDeque, ffi::OsString, net::SocketAddr, path::PathBuf, process::Stdio};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use super::with_timeout;

/// One official client in its own process.
pub struct OfficialClient {
    /// The user's name, for messages of failures.
    name: String,
    /// Accepts commands; when it closes, the process exits.
    stdin: ChildStdin,
    /// Reports events of the client.
    stdout: Lines<BufReader<ChildStdout>>,
    /// Reports that no call has returned yet, in order.
    reports: VecDeque<Value>,
    /// Every received `message`, in order.
    pub received: Vec<Value>,
    /// The id of the last request.
    next_id: u64,
    /// Killed on drop.
    _child: Child,
}

/// The state of the client after the server accepted CONNECT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connected {
    /// The id in the namespace.
    pub id: String,
    /// Whether the server restored the previous session.
    pub recovered: bool,
    /// `websocket` or `polling`.
    pub transport: String,
}

impl OfficialClient {
    /// Starts a client of `server` with a session cookie and further options; it does not connect yet.
    pub fn of(name: &str, server: SocketAddr, token: &str, options: &Value) -> Self {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/interop/official_client.mjs");
        let mut child = Command::new(node())
            .arg(script)
            .args([format!("http://{server}"), token.to_owned(), options.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("node did not start ({error}): scripts/test installs it"));
        let stdin = child.stdin.take().expect("piped");
        let stdout = BufReader::new(child.stdout.take().expect("piped")).lines();
        let (reports, received) = (VecDeque::new(), Vec::new());
        Self { name: name.into(), stdin, stdout, reports, received, next_id: 0, _child: child }
    }

    /// Connects and waits until the server accepts CONNECT.
    pub async fn connect(&mut self) -> Connected {
        self.command(json!({"do": "connect"})).await;
        self.connected().await
    }

    /// Waits until the server accepts CONNECT.
    pub async fn connected(&mut self) -> Connected {
        let report = self.next("connected").await;
        let text = |key: &str| report[key].as_str().unwrap_or_default().to_owned();
        Connected { id: text("id"), recovered: report["recovered"] == true, transport: text("transport") }
    }

    /// Connects; the server must refuse CONNECT. Returns the payload of `connect_error`.
    pub async fn connect_refused(&mut self) -> Value {
        self.command(json!({"do": "connect"})).await;
        self.next("refused").await
    }

    /// Closes its transport without a closing packet and does not reconnect by itself.
    pub async fn drop_transport(&mut self) {
        self.command(json!({"do": "disable_reconnect"})).await;
        self.command(json!({"do": "drop"})).await;
        self.disconnected().await;
    }

    /// Waits until the client reports its disconnection; returns the reason.
    pub async fn disconnected(&mut self) -> String {
        self.next("disconnected").await.as_str().unwrap_or_default().to_owned()
    }

    /// Emits an event and waits for its ack.
    pub async fn emit_with_ack(&mut self, event: &str, payload: Value) -> Value {
        self.next_id += 1;
        let id = self.next_id;
        self.command(json!({"do": "emit_with_ack", "id": id, "event": event, "payload": payload})).await;
        let answer = self.until(|report| report["answer"] == id).await;
        answer["ack"].clone()
    }

    /// Waits for a message with this text.
    pub async fn receive_message(&mut self, text: &str) {
        self.until(|report| report["event"] == "message" && report["args"][0]["data"]["text"] == text).await;
    }

    /// Waits for an event of this name and returns its arguments.
    pub async fn event(&mut self, name: &str) -> Vec<Value> {
        let report = self.until(|report| report["event"] == name).await;
        report["args"].as_array().cloned().unwrap_or_default()
    }

    /// The texts of all received messages, in order.
    pub fn texts(&self) -> Vec<&str> {
        self.received.iter().filter_map(|message| message["data"]["text"].as_str()).collect()
    }

    /// Waits for the next report of a kind.
    async fn next(&mut self, kind: &str) -> Value {
        let mut report = self.until(|report| report.get(kind).is_some()).await;
        report[kind].take()
    }

    /// Removes and returns the first report that fits; the others stay.
    async fn until(&mut self, fits: impl Fn(&Value) -> bool) -> Value {
        if let Some(at) = self.reports.iter().position(&fits) {
            return self.reports.remove(at).expect("just found");
        }
        let what = format!("a report of {}, among {:?}", self.name, self.reports);
        with_timeout(&what, async {
            loop {
                let report = self.read_report().await;
                if fits(&report) {
                    return report;
                }
                self.reports.push_back(report);
            }
        })
        .await
    }

    async fn read_report(&mut self) -> Value {
        let line = self.stdout.next_line().await.expect("a pipe of text");
        let line = line.unwrap_or_else(|| panic!("{}'s client exited: its output is above", self.name));
        let report: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line}"));
        if report["event"] == "message" {
            self.received.push(report["args"][0].clone());
        }
        report
    }

    async fn command(&mut self, command: Value) {
        let sent = self.stdin.write_all(format!("{command}\n").as_bytes()).await;
        sent.unwrap_or_else(|error| panic!("{}'s client does not read: {error}", self.name));
    }
}

/// The Node of `scripts/test`, else the one on the PATH.
fn node() -> OsString {
    std::env::var_os("INTEROP_NODE").filter(|given| !given.is_empty()).unwrap_or_else(|| "node".into())
}
