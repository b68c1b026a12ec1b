//! Log lines about deployments that refuse valid clients or cannot distinguish clients: once a minute, with the remedy.

use std::{net::Ipv4Addr, time::Duration};

use serde_json::json;

use crate::support::{Request, TestServer, with_timeout};

/// The address of a trusted proxy, and of another peer.
const TRUSTED: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);
const UNTRUSTED: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 10);

/// Headers of a request.
type Sent = &'static [(&'static str, &'static str)];

/// All warnings that contain `text`; waits for the first.
async fn warned(server: &TestServer, text: &str) -> Vec<String> {
    let found = async {
        loop {
            let log = server.system.log();
            let lines = log.lines().filter(|line| line.contains("WARN") && line.contains(text));
            let lines: Vec<String> = lines.map(str::to_owned).collect();
            if !lines.is_empty() {
                return lines;
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
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains(expected) && found[0].contains(remedy), "{}", found[0]);
    }
}

#[tokio::test]
async fn indistinguishable_clients_are_logged_once_with_the_remedy() {
    let server = TestServer::start_with(&["--trusted-proxy", "127.0.0.9"]).await;
    let table: [(Ipv4Addr, Sent, &str, &str); 6] = [
        (
            UNTRUSTED,
            &[("X-Forwarded-For", "198.51.100.7")],
            "the peer sends headers of a proxy",
            "--trusted-proxy",
        ),
        (TRUSTED, &[], "names no client", "X-Forwarded-For"),
        (TRUSTED, &[("X-Forwarded-For", "unknown")], "has no IP address", "X-Forwarded-For"),
        (
            TRUSTED,
            &[("X-Forwarded-For", "1.1.1.1"), ("X-Real-IP", "2.2.2.2")],
            "name different clients",
            "remove the one",
        ),
        (TRUSTED, &[("X-Forwarded-For", "1.1.1.1, 10.0.0.7")], "10.0.0.7 names clients", "--trusted-proxy"),
        (
            TRUSTED,
            &[("X-Forwarded-For", "1.1.1.1, 172.70.1.1"), ("CF-Connecting-IP", "1.1.1.1")],
            "cf-connecting-ip",
            "CDN",
        ),
    ];
    for (from, headers, _, _) in table {
        for _ in 0..2 {
            let request = headers
                .iter()
                .fold(Request::get("/user/me"), |request, (name, value)| request.header(name, value));
            request.send(from, server.system.address).await.expect(401);
        }
    }
    Request::get("/healthz").send(TRUSTED, server.system.address).await.expect(200);
    for (_, headers, cause, remedy) in table {
        let found = warned(&server, cause).await;
        assert!(found.len() == 1 && found[0].contains(remedy), "{headers:?}: {found:?}");
    }
    assert_eq!(server.system.counter("godzilla_forwarding_issues_total{reason=\"absent\"}").await, 2);
}
