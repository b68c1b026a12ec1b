//! Raw HTTP for the laboratory: one answer at a time on a connection, and a long-polling session over as many as it takes.

use std::net::SocketAddr;

use super::{Bench, Client};

/// What `sid` is answered once its session is gone.
pub const UNKNOWN: &str = r#"{"code":1,"message":"Session ID unknown"}"#;

/// What a request is answered that does not fit the session's transport.
pub const BAD_REQUEST: &str = r#"{"code":3,"message":"Bad request"}"#;

/// An answer with all of its body.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find_map(|(key, value)| key.eq_ignore_ascii_case(name).then_some(value))
    }

    /// Status and body, to compare at once.
    pub fn short(&self) -> (u16, &str) {
        (self.status, &self.body)
    }

    /// The packets of a polling body.
    pub fn packets(&self) -> Vec<&str> {
        assert_eq!(self.status, 200, "{self:?}");
        self.body.split('\x1e').collect()
    }
}

/// A GET of the server's path.
pub fn get(query: &str) -> String {
    format!("GET /socket.io/?{query} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

/// A POST as clients send it.
pub fn post(query: &str, body: &str) -> String {
    post_as(query, "text/plain;charset=UTF-8", body)
}

/// A POST of some content type.
pub fn post_as(query: &str, kind: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST /socket.io/?{query} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
}

/// The head of a POST whose body comes in chunks.
pub fn post_in_chunks(query: &str) -> String {
    format!("POST /socket.io/?{query} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
}

impl Client {
    /// Sends a request and reads the whole answer.
    pub async fn ask(&mut self, request: &str) -> Answer {
        self.send(request.as_bytes()).await;
        self.answer().await
    }

    /// Reads one answer.
    pub async fn answer(&mut self) -> Answer {
        let head = self.request("").await;
        let status = head[9..12].parse().unwrap();
        let mut answer = Answer { status, head, body: String::new() };
        let length = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
        while self.buffer.len() < length {
            assert!(self.fill().await, "the server closed inside a body");
        }
        answer.body = String::from_utf8(self.buffer.drain(..length).collect()).unwrap();
        answer
    }

    /// A connection to this worker, or to another than this.
    pub async fn dial_worker(address: SocketAddr, worker: &str, is_same: bool) -> Self {
        loop {
            let mut client = Self::dial(address, None).await;
            let answer = client.ask(&get("EIO=4")).await;
            if (answer.header("x-worker") == Some(worker)) == is_same {
                return client;
            }
        }
    }
}

/// A long-polling session. Each request goes over a connection of its own, and so to any worker.
pub struct Poller {
    pub address: SocketAddr,
    pub sid: String,
    /// The worker it was opened on.
    pub worker: String,
}

impl Poller {
    /// A session that has joined nothing.
    pub async fn open(bench: &Bench) -> Self {
        let mut client = Client::dial(bench.address, None).await;
        let answer = client.ask(&get("EIO=4&transport=polling")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let open: serde_json::Value = serde_json::from_str(answer.body.strip_prefix('0').unwrap()).unwrap();
        Self {
            address: bench.address,
            sid: open["sid"].as_str().unwrap().to_owned(),
            worker: answer.header("x-worker").unwrap().to_owned(),
        }
    }

    /// A session that has joined `/` and been greeted.
    pub async fn join(bench: &Bench) -> Self {
        let poller = Self::open(bench).await;
        poller.say("40").await;
        let answer = poller.poll().await;
        let packets = answer.packets();
        assert!(packets[0].starts_with("40{\"sid\":\""), "{answer:?}");
        assert_eq!(packets[1..], ["42[\"hello\"]", "42[\"early\"]"]);
        poller
    }

    /// What a request of this session has for a query.
    pub fn query(&self) -> String {
        format!("EIO=4&transport=polling&sid={}", self.sid)
    }

    /// Sends a request on a new connection.
    pub async fn start(&self, request: &str) -> Client {
        let mut client = Client::dial(self.address, None).await;
        client.send(request.as_bytes()).await;
        client
    }

    /// A GET under way.
    pub async fn start_poll(&self) -> Client {
        self.start(&get(&self.query())).await
    }

    /// A GET.
    pub async fn poll(&self) -> Answer {
        self.start_poll().await.answer().await
    }

    /// A GET that is under way for certain: the session's worker has read it, for it has answered a later request since.
    pub async fn wait(&self) -> Client {
        self.wait_for(get(&self.query()).as_bytes()).await
    }

    /// A request that is under way for certain, or the beginning of one.
    pub async fn wait_for(&self, request: &[u8]) -> Client {
        let mut client = Client::dial_worker(self.address, &self.worker, true).await;
        client.send(request).await;
        Client::dial_worker(self.address, &self.worker, true).await;
        client
    }

    /// A POST.
    pub async fn post(&self, body: &str) -> Answer {
        self.start(&post(&self.query(), body)).await.answer().await
    }

    /// A POST that is taken.
    pub async fn say(&self, body: &str) {
        assert_eq!(self.post(body).await.short(), (200, "ok"), "{body}");
    }

    /// Whether the session answers an event; nothing else may be queued.
    pub async fn assert_lives(&self) {
        self.say("4299[\"ping\"]").await;
        assert_eq!(self.poll().await.short(), (200, "4399[\"ping\",[],1]"));
    }

    /// The session is unknown to any worker.
    pub async fn assert_gone(&self) {
        assert_eq!(self.poll().await.short(), (400, UNKNOWN));
        assert_eq!(self.post("3").await.short(), (400, UNKNOWN));
    }
}
