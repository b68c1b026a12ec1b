//! Requests sent ahead of their answers on one connection (RFC 9112 §9.3.2): all are answered in order, and few are held.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{TestServer, with_timeout};

async fn opens(server: &TestServer) -> TcpStream {
    TcpStream::connect(server.system.address).await.expect("the server listens")
}

fn request(server: &TestServer, path: &str, more: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {}\r\n{more}\r\n", server.system.address)
}

#[tokio::test]
async fn requests_sent_ahead_are_answered_in_their_order() {
    let server = TestServer::start().await;
    let mut requests = String::new();
    for n in 0..200 {
        requests += &request(&server, if n % 3 == 0 { "/user/me" } else { "/healthz" }, "");
    }
    requests += &request(&server, "/nowhere", "Connection: close\r\n");
    let mut connection = opens(&server).await;
    connection.write_all(requests.as_bytes()).await.expect("it is open");
    let mut answers = String::new();
    with_timeout("all answers", connection.read_to_string(&mut answers)).await.expect("text");
    let answered: Vec<&str> = answers.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    let mut expected: Vec<&str> = (0..200).map(|n| if n % 3 == 0 { "401" } else { "200" }).collect();
    expected.push("404");
    assert_eq!(answered, expected);
}

#[tokio::test]
async fn a_body_with_empty_lines_is_read_like_any_other() {
    let server = TestServer::start().await;
    let body =
        format!("{{{}\"username\":\"alice\",\"password\":\"correct horse\"}}", "\r\n\r\n\n\n".repeat(20));
    let head = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    let register = request(&server, "/user/register", &head).replacen("GET", "POST", 1) + &body;
    let last = request(&server, "/healthz", "Connection: close\r\n");
    let mut connection = opens(&server).await;
    connection.write_all((register + &last).as_bytes()).await.expect("it is open");
    let mut answers = String::new();
    with_timeout("both answers", connection.read_to_string(&mut answers)).await.expect("text");
    assert!(answers.starts_with("HTTP/1.1 201") && answers.contains("HTTP/1.1 200"), "{answers}");
}

#[tokio::test]
async fn requests_sent_ahead_by_the_thousand_take_no_memory() {
    let server = TestServer::start().await;
    let requests = request(&server, "/healthz", "").repeat(3_000);
    let before = server.system.resident_bytes();
    let mut connections = Vec::new();
    for _ in 0..20 {
        let mut connection = opens(&server).await;
        connection.write_all(requests.as_bytes()).await.expect("the kernel takes that much");
        connections.push(connection);
    }
    for connection in &mut connections {
        // By the first answer all has been read that is going to be while nobody takes the others.
        with_timeout("an answer", connection.read_exact(&mut [0; 12])).await.expect("an answer");
    }
    let more = server.system.peak_bytes().saturating_sub(before) / 1024 / 1024;
    assert!(more < 100, "{more} MiB for 60,000 requests");
}
