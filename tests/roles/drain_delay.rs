//! The time after a signal in which a process is not ready and accepts requests (`--drain-delay`), and requests whose body arrives during a
//! drain.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::sleep,
};

use crate::support::{Request, TestServer, with_timeout};

/// The delay of the process that ends after it.
const DELAY: Duration = Duration::from_secs(2);

async fn wait_for_draining(server: &TestServer) {
    let draining = async { while !server.system.readiness(0).await.contains("draining") {} };
    with_timeout("a process that is not ready", draining).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_sigterm_requests_are_accepted_until_the_delay_is_over() {
    let mut server = TestServer::start_with(&["--drain-delay", "2s"]).await;
    let signalled = Instant::now();
    server.system.processes[0].signal("TERM");
    wait_for_draining(&server).await;
    // Each connection is new. The first one that is refused is after the delay, however slow the machine is.
    while TcpStream::connect(server.system.address).await.is_ok() {
        let answer = Request::get("/healthz").try_send([127, 0, 0, 1].into(), server.system.address).await;
        let is_served = answer.as_ref().is_none_or(|answer| answer.status == 200);
        assert!(is_served || signalled.elapsed() >= DELAY, "{answer:?}");
    }
    assert!(signalled.elapsed() >= DELAY, "connections are refused after {:?}", signalled.elapsed());
    assert_eq!(server.system.wait_for_exit(0).await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigint_and_a_second_signal_end_the_delay() {
    let mut server = TestServer::start_with(&["--drain-delay", "10m"]).await;
    server.system.processes[0].signal("INT");
    assert_eq!(server.system.wait_for_exit(0).await.code(), Some(0));
    server.system.restart().await;
    server.system.processes[0].signal("TERM");
    wait_for_draining(&server).await;
    // A signal soon after the first one counts as the same request.
    sleep(Duration::from_secs(1)).await;
    server.system.processes[0].signal("INT");
    assert_eq!(server.system.wait_for_exit(0).await.code(), Some(130));
}

/// Sends a message slowly: its body arrives for longer than the servers wait for their last connections.
async fn send_slowly(address: SocketAddr, token: &str) -> (TcpStream, String) {
    let body = json!({"text": "slow", "clientId": "1"}).to_string();
    let mut stream = TcpStream::connect(address).await.expect("the server listens");
    let head = format!(
        "POST /rooms/lobby/messages HTTP/1.1\r\nHost: a\r\nCookie: auth_token={token}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nExpect: 100-continue\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.expect("an open connection");
    let mut interim = [0; 25];
    with_timeout("100 Continue", stream.read_exact(&mut interim)).await.expect("an open connection");
    assert!(interim.starts_with(b"HTTP/1.1 100"), "{}", String::from_utf8_lossy(&interim));
    (stream, body)
}

/// The response to the message, whose body is sent from now on, for 4 s.
async fn finish(mut stream: TcpStream, body: String) -> String {
    for byte in body.as_bytes() {
        if stream.write_all(&[*byte]).await.is_err() {
            break;
        }
        sleep(Duration::from_millis(4_000 / body.len() as u64)).await;
    }
    let mut response = Vec::new();
    let _ = with_timeout("the response", stream.read_to_end(&mut response)).await;
    String::from_utf8_lossy(&response).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_whose_body_arrives_during_the_drain_is_answered() {
    for is_split in [false, true] {
        let mut server = if is_split {
            Box::pin(TestServer::start_split()).await
        } else {
            Box::pin(TestServer::start()).await
        };
        let alice = server.user("alice").await;
        let (stream, body) = send_slowly(alice.server, alice.token()).await;
        // The session of the first request is found, too: a gateway counts a request from then on.
        alice.get("/user/me").await.expect(200);
        server.system.processes[0].signal("TERM");
        let response = finish(stream, body).await;
        assert!(response.starts_with("HTTP/1.1 201"), "split: {is_split}: {response}");
        assert_eq!(server.system.wait_for_exit(0).await.code(), Some(0), "split: {is_split}");
        let log = server.system.log();
        assert!(!log.contains("drain did not finish"), "{log}");
    }
}
