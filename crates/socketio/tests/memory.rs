//! What clients leave behind: after each kind of abuse the server holds no session, no descriptor and no memory of it. The
//! server is a process of its own: the example `test_server`, which cargo builds with the tests.

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

/// So much memory may the allocator keep; what is looked for here leaks several times that.
const SLACK: u64 = 12 * MIB;

/// So many clients at a time.
const AT_ONCE: usize = 32;

/// The server process, as a test holds it.
struct ServerProcess {
    process: Child,
    asks: ChildStdin,
    says: BufReader<ChildStdout>,
    server: TestServer,
}

impl ServerProcess {
    fn start() -> Self {
        let this = std::env::current_exe().unwrap();
        let server = this.ancestors().nth(2).unwrap().join("examples/test_server");
        assert!(server.exists(), "{} is built with the tests", server.display());
        let mut process = Command::new(server).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let asks = process.stdin.take().unwrap();
        let mut says = BufReader::new(process.stdout.take().unwrap());
        let address = Self::word_after("address ", &mut says).parse().unwrap();
        Self { process, asks, says, server: TestServer::of(address) }
    }

    fn word_after(label: &str, says: &mut BufReader<ChildStdout>) -> String {
        loop {
            let mut line = String::new();
            assert!(says.read_line(&mut line).unwrap() > 0, "the server has died");
            if let Some(word) = line.strip_prefix(label) {
                return word.trim().to_owned();
            }
        }
    }

    fn sessions(&mut self) -> u64 {
        self.asks.write_all(b"\n").unwrap();
        Self::word_after("sessions ", &mut self.says).parse::<f64>().unwrap() as u64
    }

    /// Resident memory in bytes.
    fn memory(&self) -> u64 {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.process.id())).unwrap();
        statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
    }

    fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.process.id())).unwrap().count()
    }

    /// Waits until no session is left.
    async fn settle(&mut self) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            match self.sessions() {
                0 => return,
                left => assert!(Instant::now() < deadline, "{left} sessions are left"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until as few descriptors as this are open.
    async fn settle_descriptors(&self, base: usize) {
        let deadline = Instant::now() + DEADLINE;
        while self.descriptors() > base {
            assert!(Instant::now() < deadline, "{} descriptors are open, not {base}", self.descriptors());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Does `abuse` a few times, then often; in between and afterwards the server must be the same.
    async fn assert_no_leak<F: Future<Output = ()>>(
        &mut self,
        warm_up: usize,
        times: usize,
        abuse: impl Fn(std::net::SocketAddr) -> F,
    ) {
        let address = self.server.address;
        let many = |times| stream::iter(0..times).for_each_concurrent(AT_ONCE, |_| abuse(address));
        many(warm_up).await;
        self.settle().await;
        let (base, descriptors) = (self.memory(), self.descriptors());
        many(times).await;
        self.settle().await;
        self.settle_descriptors(descriptors + AT_ONCE).await;
        let grown = self.memory().saturating_sub(base);
        assert!(grown < SLACK, "{} KiB more after {times} times", grown / 1024);
        Client::join(&self.server).await;
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// The server has read everything that was sent before.
async fn assert_read(client: &mut Client) {
    client.send(&frame(0x89, b"read?")).await;
    assert_eq!(client.next().await, Frame::Pong(b"read?".to_vec()));
}

#[actix_rt::test]
async fn half_sent_events_leave_nothing() {
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
async fn one_byte_fragments_leave_nothing() {
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
    process.settle().await;
}

#[actix_rt::test]
async fn abandoned_polls_leave_nothing() {
    let abuse = |address| async move {
        let poller = Poller::join(&TestServer::of(address)).await;
        drop(poller.start_poll().await);
    };
    ServerProcess::start().assert_no_leak(200, 2000, abuse).await;
}

#[actix_rt::test]
async fn abandoned_posts_and_probes_leave_nothing() {
    let abuse = |address| async move {
        let poller = Poller::join(&TestServer::of(address)).await;
        let mut probe = Client::probe(address, &poller.sid).await;
        probe.send_text("2probe").await;
        assert_eq!(probe.next().await, Frame::Text("3probe".into()));
        let request = post(&poller.query(), "42[\"a\"]");
        drop(poller.start(&request[..request.len() - 1]).await);
        assert!(matches!(probe.next().await, Frame::Close(_)), "with the session its probe ends");
    };
    ServerProcess::start().assert_no_leak(100, 500, abuse).await;
}

#[actix_rt::test]
async fn sessions_closed_by_the_server_and_not_polled_again_leave_nothing() {
    let abuse = |address| async move {
        let poller = Poller::join(&TestServer::of(address)).await;
        let mut waiting = poller.wait().await;
        poller.send_text("42[\"count\",20]\x1e42[\"close me\"]").await;
        assert_eq!(waiting.response().await.packets().len(), 16);
    };
    ServerProcess::start().assert_no_leak(20, 200, abuse).await;
}

#[actix_rt::test]
async fn refused_posts_are_answered_and_leave_nothing() {
    let abuse = |address| async move {
        let poller = Poller::open(&TestServer::of(address)).await;
        let request = post_as(&poller.query(), "application/octet-stream", "42[\"a\"]");
        assert_eq!(poller.start(&request).await.response().await.status, 400);
    };
    ServerProcess::start().assert_no_leak(200, 5000, abuse).await;
}

#[actix_rt::test]
async fn upgrades_that_are_reset_leave_nothing() {
    let abuse = |address| async move {
        let mut client = Client::dial(address, None).await;
        client.send(upgrade_request("EIO=4&transport=websocket&sid=nobody").as_bytes()).await;
        client.reset();
    };
    ServerProcess::start().assert_no_leak(100, 1000, abuse).await;
}

#[actix_rt::test]
async fn connections_that_the_server_has_ended_are_closed_whatever_the_client_does() {
    let mut process = ServerProcess::start();
    let base = process.descriptors();
    let mut held = Vec::new();
    for index in 0..200 {
        let mut client = Client::join(&process.server).await;
        // Half of them go on talking, and none reads or closes.
        client.send_text("no packet").await;
        if index % 2 == 0 {
            client.send_in_parts(&frame(0x81, b"42[\"a\"]").repeat(1000)).await;
        }
        held.push(client);
    }
    process.settle().await;
    process.settle_descriptors(base + AT_ONCE).await;
}

#[actix_rt::test]
async fn bodies_over_the_limit_are_not_kept() {
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
        let grown = process.memory().saturating_sub(base);
        assert!(grown < SLACK, "{} KiB more after {sent} thousand events", grown / 1024);
    }
    client.send_text("421[\"still here\"]").await;
    assert_eq!(client.next().await, Frame::Text("431[\"still here\",[],1]".into()));
}
