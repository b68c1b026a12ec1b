//! Leaks: after each kind of abuse the server holds no session, descriptor or memory of it. The server is a
//! separate process: the example `test_server`, which cargo builds with the tests.

#![allow(clippy::unwrap_used, missing_docs)]

mod support;
#[path = "memory/unfinished.rs"]
mod unfinished;

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream};
use support::{
    Client, DEADLINE, Frame, TestServer, frame,
    http::{Poller, get, post, post_as, post_in_chunks},
    upgrade_request,
};

const MIB: u64 = 1024 * 1024;

/// Memory that the allocator may keep. The leaks under test are several times larger.
const SLACK: u64 = 12 * MIB;

/// The number of concurrent clients.
const AT_ONCE: usize = 32;

/// The server process.
struct ServerProcess {
    process: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    server: TestServer,
}

impl ServerProcess {
    fn start() -> Self {
        let this = std::env::current_exe().unwrap();
        let server = this.ancestors().nth(2).unwrap().join("examples/test_server");
        assert!(server.exists(), "{} is built with the tests", server.display());
        let mut process = Command::new(server).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let stdin = process.stdin.take().unwrap();
        let mut stdout = BufReader::new(process.stdout.take().unwrap());
        let address = Self::read_value("address ", &mut stdout).parse().unwrap();
        Self { process, stdin, stdout, server: TestServer::of(address) }
    }

    fn read_value(label: &str, stdout: &mut BufReader<ChildStdout>) -> String {
        loop {
            let mut line = String::new();
            assert!(stdout.read_line(&mut line).unwrap() > 0, "the server process has exited");
            if let Some(word) = line.strip_prefix(label) {
                return word.trim().to_owned();
            }
        }
    }

    fn sessions(&mut self) -> u64 {
        self.stdin.write_all(b"\n").unwrap();
        Self::read_value("sessions ", &mut self.stdout).parse::<f64>().unwrap() as u64
    }

    /// Resident memory in bytes.
    fn memory(&self) -> u64 {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.process.id())).unwrap();
        statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
    }

    fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.process.id())).unwrap().count()
    }

    /// Waits until the server has no session.
    async fn wait_for_no_sessions(&mut self) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            match self.sessions() {
                0 => return,
                left => assert!(Instant::now() < deadline, "{left} sessions are left"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until at most `base` descriptors are open.
    async fn wait_for_descriptors(&self, base: usize) {
        let deadline = Instant::now() + DEADLINE;
        while self.descriptors() > base {
            assert!(Instant::now() < deadline, "{} descriptors are open, not {base}", self.descriptors());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Runs `abuse` `warm_up` times, then `times` times. Sessions, descriptors and memory must be the same
    /// before and after the second run.
    async fn assert_no_leak<F: Future<Output = ()>>(
        &mut self,
        warm_up: usize,
        times: usize,
        abuse: impl Fn(std::net::SocketAddr) -> F,
    ) {
        let address = self.server.address;
        let many = |times| stream::iter(0..times).for_each_concurrent(AT_ONCE, |_| abuse(address));
        many(warm_up).await;
        self.wait_for_no_sessions().await;
        let (base, descriptors) = (self.memory(), self.descriptors());
        many(times).await;
        self.wait_for_no_sessions().await;
        self.wait_for_descriptors(descriptors + AT_ONCE).await;
        let growth = self.memory().saturating_sub(base);
        assert!(growth < SLACK, "{} KiB more after {times} times", growth / 1024);
        Client::join(&self.server).await;
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// Waits until the server has read everything sent before.
async fn assert_read(client: &mut Client) {
    client.send(&frame(0x89, b"probe")).await;
    assert_eq!(client.next().await, Frame::Pong(b"probe".to_vec()));
}

#[actix_rt::test]
async fn incomplete_events_do_not_leak() {
    let part = Arc::new(frame(0x82, &[7; 10_000]));
    let abuse = |address| {
        let part = part.clone();
        async move {
            let mut client = Client::join(&TestServer::of(address)).await;
            client.send_text("4510-[\"a\"]").await;
            for _ in 0..9 {
                client.send(&part).await;
            }
            assert_read(&mut client).await;
        }
    };
    ServerProcess::start().assert_no_leak(100, 1000, abuse).await;
}

#[actix_rt::test]
async fn one_byte_fragments_do_not_leak() {
    let unfinished = Arc::new([frame(0x01, b"4"), frame(0x00, b"x").repeat(126)].concat());
    let abuse = |address| {
        let unfinished = unfinished.clone();
        async move {
            let mut client = Client::join(&TestServer::of(address)).await;
            client.send(&unfinished).await;
            assert_read(&mut client).await;
        }
    };
    let mut process = ServerProcess::start();
    process.assert_no_leak(100, 500, abuse).await;

    let base = process.memory();
    let mut client = Client::join(&process.server).await;
    client.send_in_parts(&[frame(0x01, b"4"), frame(0x00, b"x").repeat(1_000_000)].concat()).await;
    assert!(process.memory() < base + SLACK);
    process.wait_for_no_sessions().await;
}

#[actix_rt::test]
async fn aborted_polls_do_not_leak() {
    let abuse = |address| async move {
        let poller = Poller::join(&TestServer::of(address)).await;
        drop(poller.start_poll().await);
    };
    ServerProcess::start().assert_no_leak(200, 2000, abuse).await;
}

#[actix_rt::test]
async fn aborted_posts_and_probes_do_not_leak() {
    let abuse = |address| async move {
        let poller = Poller::join(&TestServer::of(address)).await;
        let mut probe = Client::probe(address, &poller.sid).await;
        probe.send_text("2probe").await;
        assert_eq!(probe.next().await, Frame::Text("3probe".into()));
        let request = post(&poller.query(), "42[\"a\"]");
        drop(poller.start(&request[..request.len() - 1]).await);
        assert!(matches!(probe.next().await, Frame::Close(_)), "the probe is closed with its session");
    };
    ServerProcess::start().assert_no_leak(100, 500, abuse).await;
}

#[actix_rt::test]
async fn sessions_closed_by_the_server_and_not_polled_again_do_not_leak() {
    let abuse = |address| async move {
        let poller = Poller::join(&TestServer::of(address)).await;
        let mut waiting = poller.wait().await;
        poller.send_text("42[\"count\",20]\x1e42[\"close\"]").await;
        assert_eq!(waiting.response().await.packets().len(), 16);
    };
    ServerProcess::start().assert_no_leak(20, 200, abuse).await;
}

#[actix_rt::test]
async fn refused_posts_are_answered_and_do_not_leak() {
    let abuse = |address| async move {
        let poller = Poller::open(&TestServer::of(address)).await;
        let request = post_as(&poller.query(), "application/octet-stream", "42[\"a\"]");
        assert_eq!(poller.start(&request).await.response().await.status, 400);
    };
    ServerProcess::start().assert_no_leak(200, 5000, abuse).await;
}

#[actix_rt::test]
async fn reset_upgrades_do_not_leak() {
    let abuse = |address| async move {
        let mut client = Client::dial(address, None).await;
        client.send(upgrade_request("EIO=4&transport=websocket&sid=unknown").as_bytes()).await;
        client.reset();
    };
    ServerProcess::start().assert_no_leak(100, 1000, abuse).await;
}

#[actix_rt::test]
async fn connections_that_the_server_ends_are_closed_for_any_client_behaviour() {
    let mut process = ServerProcess::start();
    let base = process.descriptors();
    let mut clients = Vec::new();
    for index in 0..200 {
        let mut client = Client::join(&process.server).await;
        // Half of the clients continue to send, and no client reads or closes.
        client.send_text("no packet").await;
        if index % 2 == 0 {
            client.send_in_parts(&frame(0x81, b"42[\"a\"]").repeat(1000)).await;
        }
        clients.push(client);
    }
    process.wait_for_no_sessions().await;
    process.wait_for_descriptors(base + AT_ONCE).await;
}

#[actix_rt::test]
async fn bodies_over_the_limit_are_not_buffered() {
    let mut process = ServerProcess::start();
    let poller = Poller::open(&process.server).await;
    poller.send_text("3").await;
    let base = process.memory();
    let declared = post(&poller.query(), "").replace("Length: 0", "Length: 104857600");
    let chunk = format!("{:x}\r\n{}\r\n", 65_536, "x".repeat(65_536));
    for (head, part) in [(declared, "x".repeat(65_536)), (post_in_chunks(&poller.query()), chunk)] {
        let mut client = poller.start(&head).await;
        for _ in 0..1600 {
            client.send_in_parts(part.as_bytes()).await;
            assert!(process.memory() < base + SLACK);
        }
    }
    assert_eq!(poller.start(&get(&poller.query()).replace("GET", "PUT")).await.response().await.status, 400);
    assert_eq!(process.sessions(), 1);
}

#[actix_rt::test]
async fn a_flood_of_events_from_another_worker_waits_in_the_kernel() {
    let process = ServerProcess::start();
    let poller = Poller::join(&process.server).await;
    let mut client = Client::dial_worker(process.server.address, &poller.worker, false).await;
    client.upgrade_probe(&poller.sid).await;
    client.send_text("2probe").await;
    assert_eq!(client.next().await, Frame::Text("3probe".into()));
    client.send_text("5").await;
    let base = process.memory();
    let events =
        frame(0x81, b"42[\"x\",[1,[2,[3,[4,[5,[6,[7]]]]]]],{\"a\":{\"b\":{\"c\":[1,2,3]}}}]").repeat(1000);
    for sent in 0..200 {
        client.send(&events).await;
        let growth = process.memory().saturating_sub(base);
        assert!(growth < SLACK, "{} KiB more after {sent} thousand events", growth / 1024);
    }
    client.send_text("421[\"still here\"]").await;
    assert_eq!(client.next().await, Frame::Text("431[\"still here\",[],1]".into()));
}
