//! Replays the files in `vectors/`: inputs that broke other servers, and the expected answers. A control
//! client must receive every message meanwhile. `vectors/README.md` describes the format.

#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::{cell::Cell, rc::Rc, time::Duration};

use serde_json::json;
use socketio::Config;
use support::{
    Client, Frame, TestServer,
    http::{Poller, Response, get},
    start, upgrade_request,
};

/// One line of a file.
struct Vector {
    /// The file, line and row.
    name: String,
    start: &'static str,
    inputs: Vec<String>,
    expected: Vec<&'static str>,
}

/// The vectors of a file. Every row must have a vector, or name the test that covers it.
fn read(file: &str, text: &'static str) -> Vec<Vector> {
    let (mut row, mut is_covered, mut vectors) = ("", true, Vec::new());
    for (number, line) in (1..).zip(text.lines().map(str::trim)) {
        match line.split_once(' ') {
            None => assert!(line.is_empty(), "{file}:{number}: {line}"),
            Some(("#", _)) => {}
            Some(("row", name)) => {
                assert!(is_covered, "{file}: no vector for {row}");
                (row, is_covered) = (name, false);
            }
            Some(("elsewhere", _)) => is_covered = true,
            Some((start, rest)) => {
                let name = format!("{file}:{number} ({row}): {:.120}", line);
                let (inputs, expected) = rest.rsplit_once("-> ").unwrap_or_else(|| panic!("{name}"));
                let inputs = inputs.split(" | ").map(|input| expand(input.trim())).collect();
                vectors.push(Vector { name, start, inputs, expected: expected.split(" | ").collect() });
                is_covered = true;
            }
        }
    }
    assert!(is_covered && !vectors.is_empty(), "{file}: no vector for {row}");
    vectors
}

/// Expands `«unit*count»`, and control pictures to the characters that they represent.
fn expand(input: &str) -> String {
    let input = input.replace('␞', "\x1e").replace('␀', "\0").replace('¶', "\r\n");
    let Some((before, rest)) = input.split_once('«') else { return input };
    let (unit, rest) = rest.split_once('*').unwrap();
    let (count, after) = rest.split_once('»').unwrap();
    format!("{before}{}{}", unit.repeat(count.parse().unwrap()), expand(after))
}

/// The frame, or raw bytes, of one input.
fn bytes_of(input: &str) -> Vec<u8> {
    let inner = |kind: &str| input.strip_prefix(kind)?.strip_suffix(')');
    if let Some(hex) = inner("hex(") {
        let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        return digits.chunks(2).map(byte).collect();
    }
    match inner("B(") {
        Some(count) => support::frame(0x82, &vec![b'x'; count.parse().unwrap()]),
        None => support::frame(0x81, input.as_bytes()),
    }
}

impl Vector {
    async fn run(&self, server: &TestServer) {
        match self.start {
            "GET" => self.check_answer(&self.fetch(server, get(&self.inputs[0])).await),
            "UPGRADE" => self.check_answer(&self.fetch(server, upgrade_request(&self.inputs[0])).await),
            "UPGRADE/1.0" => {
                let request = upgrade_request(&self.inputs[0]).replace("HTTP/1.1", "HTTP/1.0");
                self.check_answer(&self.fetch(server, request).await);
            }
            "polling" => self.run_polling(server).await,
            "segment" => {
                let mut client = Client::dial(server.address, None).await;
                let request = upgrade_request("EIO=4&transport=websocket");
                client.send(&[request.as_bytes(), &bytes_of(&self.inputs[0])].concat()).await;
                assert!(client.request("").await.starts_with("HTTP/1.1 101"), "{}", self.name);
                assert!(matches!(client.next().await, Frame::Text(_)), "{}", self.name);
                self.check_frames(client, None).await;
            }
            "fresh" => self.run_frames(Client::open(server).await, None).await,
            "joined" => self.run_frames(Client::join(server).await, None).await,
            "probe" => {
                let poller = Poller::join(server).await;
                let probe = Client::probe(server.address, &poller.sid).await;
                self.run_frames(probe, Some(poller)).await;
            }
            other => panic!("{}: no start {other}", self.name),
        }
    }

    /// Sends a request with the inputs after the first as headers.
    async fn fetch(&self, server: &TestServer, request: String) -> Response {
        let headers: String = self.inputs[1..].iter().map(|header| format!("{header}\r\n")).collect();
        let request = request.replacen("\r\n\r\n", &format!("\r\n{headers}\r\n"), 1);
        Client::dial(server.address, None).await.fetch(&request).await
    }

    fn check_answer(&self, response: &Response) {
        for expected in &self.expected {
            match expected.split_once(' ') {
                Some(("without", header)) => assert_eq!(response.header(header), None, "{}", self.name),
                Some(("sets", field)) => {
                    let (header, value) = field.split_once(": ").unwrap();
                    assert_eq!(response.header(header), Some(value), "{}", self.name);
                }
                Some((status, body)) => {
                    assert_eq!(response.short(), (status.parse().unwrap(), body), "{}", self.name);
                }
                None => assert_eq!(response.status.to_string(), *expected, "{}", self.name),
            }
        }
    }

    /// Each input is the body of a POST. Compares the last response and the state of the session.
    async fn run_polling(&self, server: &TestServer) {
        let poller = Poller::join(server).await;
        let mut response = None;
        for input in &self.inputs {
            response = Some(poller.post(input).await);
        }
        for expected in &self.expected {
            match *expected {
                "lives" => poller.assert_alive().await,
                "gone" => poller.assert_unknown().await,
                status => assert_eq!(response.as_ref().unwrap().status.to_string(), status, "{}", self.name),
            }
        }
    }

    async fn run_frames(&self, mut client: Client, poller: Option<Poller>) {
        for input in self.inputs.iter().filter(|input| !input.is_empty()) {
            client.send_in_parts(&bytes_of(if input == "\"\"" { "" } else { input })).await;
        }
        self.check_frames(client, poller).await;
    }

    async fn check_frames(&self, mut client: Client, poller: Option<Poller>) {
        let any_pongs = self.expected[0] == "pongs";
        for expected in &self.expected[usize::from(any_pongs)..] {
            let name = &self.name;
            match expected.split_once(' ') {
                Some(("close", code)) => {
                    let end = if any_pongs { client.next_except_pongs().await } else { client.next().await };
                    assert_eq!(end, Frame::Close(code.parse().unwrap()), "{name}");
                    assert_eq!(client.next().await, Frame::End, "{name}");
                }
                Some(("pong", data)) => {
                    assert_eq!(client.next().await, Frame::Pong(expand(data).into_bytes()), "{name}");
                }
                Some(("binary", hex)) => {
                    let want = bytes_of(&format!("hex({hex})"));
                    assert_eq!(client.next().await, Frame::Binary(want), "{name}");
                }
                _ if *expected == "pong" => {
                    assert_eq!(client.next().await, Frame::Pong(Vec::new()), "{name}")
                }
                _ if *expected == "end" => assert_eq!(client.next().await, Frame::End, "{name}"),
                _ if *expected == "alive" => {
                    client.send_text("4299[\"ping\"]").await;
                    assert_eq!(client.next().await, Frame::Text("4399[\"ping\",[],1]".into()), "{name}");
                }
                _ if *expected == "lives" => poller.as_ref().unwrap().assert_alive().await,
                _ => assert_eq!(client.next().await, Frame::Text(expand(expected)), "{name}"),
            }
        }
    }
}

/// Receives a broadcast and an ack in a loop until `stop` is set. Returns the number of iterations. Panics if
/// a message is missing.
async fn control(server: Rc<TestServer>, stop: Rc<Cell<bool>>) -> u64 {
    let mut client = Client::join(&server).await;
    client.send_text("420[\"join\",\"control\"]").await;
    assert_eq!(client.next().await, Frame::Text("430[\"join\",[null],1]".into()));
    for number in 0.. {
        if stop.get() {
            return number;
        }
        server.broadcast("control", "n", json!(number)).await;
        assert_eq!(client.next().await, Frame::Text(format!("42[\"n\",{number}]")));
        client.send_text(&format!("42{number}[\"ping\"]")).await;
        assert_eq!(client.next().await, Frame::Text(format!("43{number}[\"ping\",[],1]")));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    unreachable!("the range has no end")
}

async fn replay(file: &str, text: &'static str) {
    let config = Config {
        body_timeout: Duration::from_millis(500),
        connect_timeout: Duration::from_secs(2),
        upgrade_timeout: Duration::from_millis(500),
        ..Config::default()
    };
    let (server, stop) = (Rc::new(start(config)), Rc::new(Cell::new(false)));
    let control = actix_rt::spawn(control(server.clone(), stop.clone()));
    let mut failed = Vec::new();
    for vector in read(file, text) {
        let (server, name) = (server.clone(), vector.name.clone());
        if actix_rt::spawn(async move { vector.run(&server).await }).await.is_err() {
            failed.push(name);
        }
        assert!(!control.is_finished(), "the control client failed after {failed:?}");
    }
    assert!(failed.is_empty(), "{failed:#?}");
    stop.set(true);
    assert!(control.await.unwrap() > 0);
}

#[actix_rt::test]
async fn vulnerabilities_of_other_servers() {
    replay("cves.txt", include_str!("vectors/cves.txt")).await;
}

#[actix_rt::test]
async fn malformed_packets() {
    replay("packets.txt", include_str!("vectors/packets.txt")).await;
}

#[actix_rt::test]
async fn session_errors() {
    replay("sessions.txt", include_str!("vectors/sessions.txt")).await;
}

#[actix_rt::test]
async fn frame_errors() {
    replay("frames.txt", include_str!("vectors/frames.txt")).await;
}
