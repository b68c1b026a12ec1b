//! Raw HTTP for the laboratory: one response at a time on a connection, and a long-polling session over as many as it takes.

use std::net::SocketAddr;

use super::{Client, TestServer};

/// What `sid` is answered once its session is gone.
pub const UNKNOWN: &str = r#"{"code":1,"message":"Session ID unknown"}"#;

/// What a request is answered that does not fit the session's transport.
pub const BAD_REQUEST: &str = r#"{"code":3,"message":"Bad request"}"#;

/// An response with all of its body.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Response {
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
    /// Sends a request and reads the whole response.
    pub async fn fetch(&mut self, request: &str) -> Response {
        self.send(request.as_bytes()).await;
        self.response().await
    }

    /// Reads one response.
    pub async fn response(&mut self) -> Response {
        let head = self.request("").await;
        let status = head[9..12].parse().unwrap();
        let mut response = Response { status, head, body: String::new() };
        let length = response.header("content-length").map_or(0, |length| length.parse().unwrap());
        while self.buffer.len() < length {
            assert!(self.fill().await, "the server closed inside a body");
        }
        response.body = String::from_utf8(self.buffer.drain(..length).collect()).unwrap();
        response
    }

    /// A connection to this worker, or to another than this.
    pub async fn dial_worker(address: SocketAddr, worker: &str, is_same: bool) -> Self {
        loop {
            let mut client = Self::dial(address, None).await;
            let response = client.fetch(&get("EIO=4")).await;
            if (response.header("x-worker") == Some(worker)) == is_same {
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
    pub async fn open(server: &TestServer) -> Self {
        let mut client = Client::dial(server.address, None).await;
        let response = client.fetch(&get("EIO=4&transport=polling")).await;
        assert_eq!(response.status, 200, "{response:?}");
        let open: serde_json::Value = serde_json::from_str(response.body.strip_prefix('0').unwrap()).unwrap();
        Self {
            address: server.address,
            sid: open["sid"].as_str().unwrap().to_owned(),
            worker: response.header("x-worker").unwrap().to_owned(),
        }
    }

    /// A session that has joined `/` and been greeted.
    pub async fn join(server: &TestServer) -> Self {
        let poller = Self::open(server).await;
        poller.send_text("40").await;
        let response = poller.poll().await;
        let packets = response.packets();
        assert!(packets[0].starts_with("40{\"sid\":\""), "{response:?}");
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
    pub async fn poll(&self) -> Response {
        self.start_poll().await.response().await
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
    pub async fn post(&self, body: &str) -> Response {
        self.start(&post(&self.query(), body)).await.response().await
    }

    /// A POST that is taken.
    pub async fn send_text(&self, body: &str) {
        assert_eq!(self.post(body).await.short(), (200, "ok"), "{body}");
    }

    /// Whether the session answers an event; nothing else may be queued.
    pub async fn assert_alive(&self) {
        self.send_text("4299[\"ping\"]").await;
        assert_eq!(self.poll().await.short(), (200, "4399[\"ping\",[],1]"));
    }

    /// The session is unknown to any worker.
    pub async fn assert_unknown(&self) {
        assert_eq!(self.poll().await.short(), (400, UNKNOWN));
        assert_eq!(self.post("3").await.short(), (400, UNKNOWN));
    }
}
