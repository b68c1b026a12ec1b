//! Log lines about deployments that refuse valid clients or cannot distinguish clients: once a minute, with the remedy.

use std::{net::Ipv4Addr, time::Duration};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Request, TestServer, connect, with_timeout};

/// The address of a trusted proxy, and of another peer.
const TRUSTED: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);
const UNTRUSTED: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 10);

/// The only warning that contains `text`; waits for it.
async fn warned(server: &TestServer, text: &str) -> String {
    let found = async {
        loop {
            let log = server.system.log();
            let mut lines = log.lines().filter(|line| line.contains("WARN") && line.contains(text));
            if let Some(line) = lines.next() {
                assert_eq!(lines.next(), None, "twice in a minute");
                return line.to_owned();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    with_timeout(&format!("a warning about {text}"), found).await
}

#[tokio::test]
async fn a_refused_origin_is_logged_once_with_the_expected_origin_and_the_remedy() {
    let server = TestServer::start_with(&["--trusted-proxy", "127.0.0.9"]).await;
    let login = json!({ "username": "alice", "password": "the password of alice" });
    let ask = async |from: Ipv4Addr, request: Request| request.send(from, server.system.address).await;
    for _ in 0..3 {
        let request = Request::post("/user/login", &login).header("Origin", "https://elsewhere.example");
        let refused = ask(UNTRUSTED, request).await.expect(403);
        assert!(
            refused.body.contains("--allow-origin") && refused.body.contains("X-Forwarded-Proto"),
            "{}",
            refused.body
        );
    }
    // A proxy that forwards the wrong scheme, and a page that only reads.
    let proxied = Request::post("/user/login", &login).header("Origin", "https://chat.example");
    let proxied = proxied.header("X-Forwarded-Proto", "http").header("X-Forwarded-Host", "chat.example");
    ask(TRUSTED, proxied.header("X-Forwarded-For", "198.51.100.7")).await.expect(403);
    ask(UNTRUSTED, Request::get("/healthz").header("Origin", "capacitor://localhost")).await.expect(200);
    for (seen, expected, remedy) in [
        ("https://elsewhere.example", "http://127.0.0.1", "--trusted-proxy"),
        ("https://chat.example", "http://chat.example", "X-Forwarded-Proto"),
        ("capacitor://localhost", "http://127.0.0.1", "--allow-origin"),
    ] {
        let found = warned(&server, seen).await;
        assert!(found.contains(expected) && found.contains(remedy), "{found}");
    }
}

#[tokio::test]
async fn indistinguishable_clients_and_damaged_handshakes_are_logged_once_with_the_remedy() {
    let server = TestServer::start_with(&["--trusted-proxy", "127.0.0.9"]).await;
    let forwarded = ("X-Forwarded-For", "198.51.100.7");
    let (api, handshake) = ("/user/me", "/socket.io/?EIO=4&transport=websocket");
    type Row<'a> = (Ipv4Addr, &'a str, &'a [(&'a str, &'a str)], u16, &'a str, &'a str);
    let table: [Row<'_>; 5] = [
        (UNTRUSTED, api, &[forwarded], 401, "a peer that is not trusted sends headers", "--trusted-proxy"),
        (TRUSTED, api, &[], 401, "names no client", "X-Forwarded-For"),
        (TRUSTED, api, &[forwarded, ("X-Real-IP", "2.2.2.2")], 401, "name different clients", "X-Real-IP"),
        (TRUSTED, handshake, &[forwarded], 401, "without the header Upgrade", "docs/proxies.md"),
        (
            TRUSTED,
            handshake,
            &[forwarded, ("Upgrade", "websocket")],
            400,
            "without Connection: Upgrade",
            "docs/proxies.md",
        ),
    ];
    for (from, path, headers, status, _, _) in table.into_iter().chain(table) {
        let request = Request::get(path);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(name, value));
        request.send(from, server.system.address).await.expect(status);
    }
    Request::get("/healthz").send(TRUSTED, server.system.address).await.expect(200);
    for (_, _, _, _, cause, remedy) in table {
        let found = warned(&server, cause).await;
        assert!(found.contains(remedy), "{found}");
    }
}

#[tokio::test]
async fn a_malformed_request_is_no_error_of_the_server() {
    let server = TestServer::start_with(&["--log", "info,actix_http=debug"]).await;
    for bad in ["GET / HTTP/1.1\r\nHost: a\r\nBad Header: 1\r\n\r\n", "GET / HTTP/1.1\r\nHost: \x01\r\n\r\n"]
    {
        let mut stream = connect(UNTRUSTED, server.system.address).await;
        with_timeout("a write", stream.write_all(bad.as_bytes())).await.expect("an open connection");
        let mut response = Vec::new();
        _ = with_timeout("the end", stream.read_to_end(&mut response)).await;
        assert!(response.starts_with(b"HTTP/1.1 400 "), "{}", String::from_utf8_lossy(&response));
    }
    let log = server.system.log();
    assert!(!log.contains("ERROR"), "{log}");
}
