//! The unmodified official client on Node, driven line by line, so that a play decides when it drops and when it comes back.
//! Used by `recovery`; the other end is `tests/interop/puppet.mjs`.

use std::{collections::VecDeque, ffi::OsString, net::SocketAddr, path::PathBuf, process::Stdio};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use super::with_timeout;

/// One official client in a process of its own.
pub struct OfficialClient {
    /// Whose it is, for the words of a failure.
    name: String,
    /// Commands go here; when it closes, the process ends.
    strings: ChildStdin,
    /// What happened comes from here.
    voice: Lines<BufReader<ChildStdout>>,
    /// What happened and nobody asked for yet, in order.
    news: VecDeque<Value>,
    /// Every `message` ever heard, in order.
    pub received: Vec<Value>,
    /// The next question.
    next_id: u64,
    /// Killed on drop.
    _child: Child,
}

/// What the client knows after CONNECT was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connected {
    /// The id in the namespace.
    pub id: String,
    /// Whether it goes on where it was.
    pub recovered: bool,
    /// `websocket` or `polling`.
    pub transport: String,
}

impl OfficialClient {
    /// Starts a client of `server` with a session's cookie and more options; it does not connect yet.
    pub fn of(name: &str, server: SocketAddr, token: &str, options: &Value) -> Self {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/interop/puppet.mjs");
        let mut child = Command::new(node())
            .arg(script)
            .args([format!("http://{server}"), token.to_owned(), options.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("node did not start ({error}): scripts/test installs it"));
        let strings = child.stdin.take().expect("piped");
        let voice = BufReader::new(child.stdout.take().expect("piped")).lines();
        let (news, received) = (VecDeque::new(), Vec::new());
        Self { name: name.into(), strings, voice, news, received, next_id: 0, _child: child }
    }

    /// Connects and waits for the answer to CONNECT.
    pub async fn connect(&mut self) -> Connected {
        self.pull(json!({"do": "connect"})).await;
        self.is_connected().await
    }

    /// Waits for an answer to CONNECT.
    pub async fn is_connected(&mut self) -> Connected {
        let news = self.next("connected").await;
        let text = |key: &str| news[key].as_str().unwrap_or_default().to_owned();
        Connected { id: text("id"), recovered: news["recovered"] == true, transport: text("transport") }
    }

    /// Connects and must not be let in: what `connect_error` says.
    pub async fn is_refused(&mut self) -> Value {
        self.pull(json!({"do": "connect"})).await;
        self.next("refused").await
    }

    /// Loses its transport without a farewell, and comes back only when told to.
    pub async fn drops(&mut self) {
        self.pull(json!({"do": "stay_away"})).await;
        self.pull(json!({"do": "drop"})).await;
        self.is_dropped().await;
    }

    /// Is sent a volatile event whose last argument is `text`, and takes that for the offset of what it has seen.
    pub async fn takes_for_an_offset(&mut self, text: &str) {
        self.pull(json!({"do": "take_for_an_offset", "text": text})).await;
        let told = self.event("volatile").await;
        assert_eq!(told, [json!(text)]);
    }

    /// Waits until the client knows that it is disconnected; says why it thinks so.
    pub async fn is_dropped(&mut self) -> String {
        self.next("disconnected").await.as_str().unwrap_or_default().to_owned()
    }

    /// Emits an event and waits for its ack.
    pub async fn emit_with_ack(&mut self, event: &str, payload: Value) -> Value {
        self.next_id += 1;
        let id = self.next_id;
        self.pull(json!({"do": "ask", "id": id, "event": event, "payload": payload})).await;
        let answer = self.until(|news| news["answer"] == id).await;
        answer["ack"].clone()
    }

    /// Waits for a message with this text.
    pub async fn receive_message(&mut self, text: &str) {
        self.until(|news| news["event"] == "message" && news["args"][0]["data"]["text"] == text).await;
    }

    /// Waits for an event of this name: its arguments.
    pub async fn event(&mut self, name: &str) -> Vec<Value> {
        let news = self.until(|news| news["event"] == name).await;
        news["args"].as_array().cloned().unwrap_or_default()
    }

    /// The texts of all messages ever heard, in order.
    pub fn texts(&self) -> Vec<&str> {
        self.received.iter().filter_map(|message| message["data"]["text"].as_str()).collect()
    }

    /// Waits for the next news of a kind.
    async fn next(&mut self, kind: &str) -> Value {
        let mut news = self.until(|news| news.get(kind).is_some()).await;
        news[kind].take()
    }

    /// Takes the first news that fits, and leaves the others.
    async fn until(&mut self, fits: impl Fn(&Value) -> bool) -> Value {
        if let Some(at) = self.news.iter().position(&fits) {
            return self.news.remove(at).expect("just found");
        }
        let what = format!("news of {}, among {:?}", self.name, self.news);
        with_timeout(&what, async {
            loop {
                let news = self.listens().await;
                if fits(&news) {
                    return news;
                }
                self.news.push_back(news);
            }
        })
        .await
    }

    async fn listens(&mut self) -> Value {
        let line = self.voice.next_line().await.expect("a pipe of text");
        let line = line.unwrap_or_else(|| panic!("{}'s client ended: see its words above", self.name));
        let news: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line}"));
        if news["event"] == "message" {
            self.received.push(news["args"][0].clone());
        }
        news
    }

    async fn pull(&mut self, command: Value) {
        let sent = self.strings.write_all(format!("{command}\n").as_bytes()).await;
        sent.unwrap_or_else(|error| panic!("{}'s client does not listen: {error}", self.name));
    }
}

/// The node of `scripts/test`, else the one on the PATH.
fn node() -> OsString {
    std::env::var_os("INTEROP_NODE").filter(|given| !given.is_empty()).unwrap_or_else(|| "node".into())
}
