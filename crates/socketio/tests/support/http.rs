//! Raw HTTP for the tests: one response at a time per connection, and a long-polling session over any number
//! of connections.

use std::net::SocketAddr;

use super::{Client, TestServer};

/// The response to a request for an unknown session.
pub const UNKNOWN: &str = r#"{"code":1,"message":"Session ID unknown"}"#;

/// The response to a request that does not match the session's transport.
pub const BAD_REQUEST: &str = r#"{"code":3,"message":"Bad request"}"#;

/// A complete response.
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

    /// Status and body, to compare both at once.
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

/// A POST with the headers of stock clients.
pub fn post(query: &str, body: &str) -> String {
    post_as(query, "text/plain;charset=UTF-8", body)
}

/// A POST with a content type.
pub fn post_as(query: &str, kind: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST /socket.io/?{query} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
}

/// The head of a chunked POST.
pub fn post_in_chunks(query: &str) -> String {
    format!("POST /socket.io/?{query} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
}

impl Client {
    /// Sends a request and reads the complete response.
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

    /// A connection to this worker, or to another worker.
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

/// A long-polling session. Each request uses a new connection, and so any worker.
pub struct Poller {
    pub address: SocketAddr,
    pub sid: String,
    /// The worker of the session.
    pub worker: String,
}

impl Poller {
    /// A session in no namespace.
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

    /// A session that has joined `/` and received the first events.
    pub async fn join(server: &TestServer) -> Self {
        let poller = Self::open(server).await;
        poller.send_text("40").await;
        let response = poller.poll().await;
        let packets = response.packets();
        assert!(packets[0].starts_with("40{\"sid\":\""), "{response:?}");
        assert_eq!(packets[1..], ["42[\"hello\"]", "42[\"early\"]"]);
        poller
    }

    /// The query of the session's requests.
    pub fn query(&self) -> String {
        format!("EIO=4&transport=polling&sid={}", self.sid)
    }

    /// Sends a request on a new connection.
    pub async fn start(&self, request: &str) -> Client {
        let mut client = Client::dial(self.address, None).await;
        client.send(request.as_bytes()).await;
        client
    }

    /// A pending GET.
    pub async fn start_poll(&self) -> Client {
        self.start(&get(&self.query())).await
    }

    /// A GET.
    pub async fn poll(&self) -> Response {
        self.start_poll().await.response().await
    }

    /// A GET that the session's worker has certainly read: it has answered a later request.
    pub async fn wait(&self) -> Client {
        self.wait_for(get(&self.query()).as_bytes()).await
    }

    /// A request, or the beginning of one, that the session's worker has certainly read.
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

    /// A POST that is accepted.
    pub async fn send_text(&self, body: &str) {
        assert_eq!(self.post(body).await.short(), (200, "ok"), "{body}");
    }

    /// The session answers an event. Nothing else may be queued.
    pub async fn assert_alive(&self) {
        self.send_text("4299[\"ping\"]").await;
        assert_eq!(self.poll().await.short(), (200, "4399[\"ping\",[],1]"));
    }

    /// The session is unknown on every worker.
    pub async fn assert_unknown(&self) {
        assert_eq!(self.poll().await.short(), (400, UNKNOWN));
        assert_eq!(self.post("3").await.short(), (400, UNKNOWN));
    }
}
