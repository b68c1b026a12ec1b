//! Pipelined requests on one connection (RFC 9112 §9.3.2): all are answered in order, and the server buffers few of them.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{TestServer, with_timeout};

async fn open(server: &TestServer) -> TcpStream {
    TcpStream::connect(server.system.address).await.expect("the server listens")
}

fn request(server: &TestServer, path: &str, more: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {}\r\n{more}\r\n", server.system.address)
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let server = TestServer::start().await;
    let mut requests = String::new();
    for n in 0..200 {
        requests += &request(&server, if n % 3 == 0 { "/user/me" } else { "/healthz" }, "");
    }
    requests += &request(&server, "/nowhere", "Connection: close\r\n");
    let mut connection = open(&server).await;
    connection.write_all(requests.as_bytes()).await.expect("an open connection");
    let mut responses = String::new();
    with_timeout("all responses", connection.read_to_string(&mut responses)).await.expect("text");
    let statuses: Vec<&str> = responses.split("HTTP/1.1 ").skip(1).map(|response| &response[..3]).collect();
    let mut expected: Vec<&str> = (0..200).map(|n| if n % 3 == 0 { "401" } else { "200" }).collect();
    expected.push("404");
    assert_eq!(statuses, expected);
}

#[tokio::test]
async fn thousands_of_pipelined_requests_take_little_memory() {
    let server = TestServer::start().await;
    let requests = request(&server, "/healthz", "").repeat(3_000);
    let before = server.system.resident_bytes();
    let mut connections = Vec::new();
    for _ in 0..20 {
        let mut connection = open(&server).await;
        connection.write_all(requests.as_bytes()).await.expect("the kernel's buffers have room");
        connections.push(connection);
    }
    for connection in &mut connections {
        // When the first response arrives, the server has read everything that it reads before the other responses are read.
        with_timeout("a response", connection.read_exact(&mut [0; 12])).await.expect("a response");
    }
    let more = server.system.peak_bytes().saturating_sub(before) / 1024 / 1024;
    assert!(more < 100, "{more} MiB for 60,000 requests");
}
