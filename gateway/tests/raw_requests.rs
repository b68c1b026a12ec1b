//! The gateway on a real listener, with raw requests: behavior that only shows in the bytes of a connection.

#![allow(clippy::unwrap_used)]

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use actix_web::{App, HttpResponse, HttpServer, web};
use clap::Parser;
use futures_util::future::join_all;
use gateway::{Config, Gateway};
use proto::Timestamp;
use sessions::SqliteSessions;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    gateway: Config,
}

/// A server on its own port.
struct Server {
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

/// Longer than any response takes. A test that reaches it has failed.
const TIMEOUT: Duration = Duration::from_secs(10);

async fn server(flags: &[&str]) -> Server {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteSessions::open(&folder.path().join("sessions.sqlite3"), Timestamp::now).unwrap();
    let cli = Cli::try_parse_from(["gateway"].iter().chain(flags)).unwrap();
    let gateway = Gateway::new(cli.gateway, Arc::new(store));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = HttpServer::new(move || {
        App::new()
            .configure(|service| gateway.routes(service))
            .service(
                web::resource("/user/login")
                    .wrap(gateway.login_limit())
                    .route(web::post().to(HttpResponse::Ok)),
            )
            .route("/user/me", web::get().to(|| async { HttpResponse::Ok().body("me") }))
            .route(
                "/rooms",
                web::post().to(|body: web::Bytes| async move { HttpResponse::Ok().json(body.len()) }),
            )
            .default_service(web::to(gateway::not_found))
            .wrap(gateway.middleware())
    });
    let server = server.workers(2).disable_signals().listen(listener).unwrap().run();
    actix_web::rt::spawn(server);
    Server { address, _folder: folder }
}

impl Server {
    /// Sends `bytes` on a new connection and reads until the server closes it.
    async fn exchange(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        read_to_end(&mut stream).await
    }

    /// One login attempt from the local address `from`.
    async fn login(&self, from: IpAddr, extra: &str) -> String {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((from, 0))).unwrap();
        let mut stream = socket.connect(self.address).await.unwrap();
        let request = format!("POST /user/login HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{extra}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        read_to_end(&mut stream).await
    }
}

async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut response = Vec::new();
    let read = tokio::time::timeout(TIMEOUT, stream.read_to_end(&mut response)).await;
    let text = String::from_utf8_lossy(&response).into_owned();
    // A reset after the response is expected: the server does not read the rest of a refused request.
    assert!(read.is_ok(), "the connection stayed open after {text:?}");
    text
}

fn status(response: &str) -> u16 {
    response.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
}

fn count(response: &str) -> usize {
    response.matches("HTTP/1.1 ").count()
}

#[actix_web::test]
async fn an_upgrade_on_another_route_gets_400_and_closes_the_connection() {
    let server = server(&[]).await;
    let paths = ["/user/me", "/", "/healthz", "/socket.io", "/nowhere"];
    let responses = paths.map(async |path| {
        let smuggled = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
        let head = "HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        server.exchange(format!("GET {path} {head}{smuggled}").as_bytes()).await
    });
    for (path, response) in paths.iter().zip(join_all(responses).await) {
        assert_eq!((status(&response), count(&response)), (400, 1), "{path}: {response}");
        assert!(response.contains(r#""code":400"#), "{response}");
    }
}

#[actix_web::test]
async fn connect_and_trace_get_405_and_close_the_connection() {
    let server = server(&[]).await;
    for line in ["CONNECT a:80 HTTP/1.1", "CONNECT / HTTP/1.1", "TRACE / HTTP/1.1", "TRACE /user/me HTTP/1.1"]
    {
        let response = server.exchange(format!("{line}\r\nHost: a\r\n\r\n").as_bytes()).await;
        assert_eq!((status(&response), count(&response)), (405, 1), "{line}: {response}");
    }
    let smuggled = "CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\nGET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
    let response = server.exchange(smuggled.as_bytes()).await;
    assert_eq!(count(&response), 1, "what follows a tunnel is no request: {response}");
}

#[actix_web::test]
async fn the_target_must_match_the_host_header_and_be_canonical() {
    let server = server(&[]).await;
    let close = "Connection: close\r\n\r\n";
    let table = [
        ("GET http://a/healthz HTTP/1.1\r\nHost: a\r\n", 200),
        ("GET http://evil/healthz HTTP/1.1\r\nHost: a\r\n", 400),
        ("GET http://a:81/healthz HTTP/1.1\r\nHost: a\r\n", 400),
        ("GET /healthz HTTP/1.1\r\nHost: a\r\nHost: a\r\n", 400),
        ("GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n", 400),
        ("GET //healthz HTTP/1.1\r\nHost: a\r\n", 400),
        ("GET /a/../healthz HTTP/1.1\r\nHost: a\r\n", 400),
        ("GET /a/%2e%2e/healthz HTTP/1.1\r\nHost: a\r\n", 400),
        ("GET /a/..;/healthz HTTP/1.1\r\nHost: a\r\n", 400),
        ("GET /a\\healthz HTTP/1.1\r\nHost: a\r\n", 400),
        ("GET /healthz%00 HTTP/1.1\r\nHost: a\r\n", 400),
        ("GET /socket.io HTTP/1.1\r\nHost: a\r\n", 404),
        ("GET /socket.io// HTTP/1.1\r\nHost: a\r\n", 400),
        ("GET /user/me/ HTTP/1.1\r\nHost: a\r\n", 404),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n", 400),
        ("get /healthz HTTP/1.1\r\nHost: a\r\n", 405),
        ("DELETE /healthz HTTP/1.1\r\nHost: a\r\n", 405),
        ("GET /user/me HTTP/1.1\r\nHost: a\r\n", 401),
        ("HEAD /healthz HTTP/1.1\r\nHost: a\r\n", 200),
    ];
    for (head, want) in table {
        let response = server.exchange(format!("{head}{close}").as_bytes()).await;
        assert_eq!(status(&response), want, "{head}: {response}");
    }
}

#[actix_web::test]
async fn an_identity_in_a_trailer_or_in_connection_is_ignored() {
    let server = server(&[]).await;
    let trailer = "POST /rooms HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: application/json\r\nTrailer: X-Authenticated-User\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX-Authenticated-User: eve\r\n\r\n";
    assert_eq!(status(&server.exchange(trailer.as_bytes()).await), 401);
    let named = "GET /user/me HTTP/1.1\r\nHost: a\r\nX-Authenticated-User: eve\r\nConnection: close, x-authenticated-user, cookie\r\n\r\n";
    assert_eq!(status(&server.exchange(named.as_bytes()).await), 401);
}

#[actix_web::test]
async fn the_fifth_login_of_an_address_gets_429_and_other_addresses_are_unaffected() {
    let server = server(&["--login-rate=1"]).await;
    let (one, other) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
    for spoofed in
        ["", "X-Forwarded-For: 9.9.9.9\r\n", "Forwarded: for=9.9.9.8\r\n", "X-Real-IP: 9.9.9.7\r\n"]
    {
        assert_eq!(status(&server.login(one, spoofed).await), 200);
    }
    for spoofed in ["", "X-Forwarded-For: 9.9.9.6\r\n", "X_Forwarded_For: 9.9.9.6\r\n"] {
        let refused = server.login(one, spoofed).await;
        assert_eq!(status(&refused), 429, "{refused}");
        assert!(
            refused.contains(r#"{"status":"error","code":429,"message":"Too Many Requests"}"#),
            "{refused}"
        );
        assert!(refused.to_ascii_lowercase().contains("\r\nretry-after: 1\r\n"), "{refused}");
    }
    assert_eq!(status(&server.login(other, "").await), 200);
}

#[actix_web::test]
async fn behind_a_trusted_proxy_each_client_has_its_own_limit() {
    let server = server(&["--login-rate=1", "--login-burst=1", "--trusted-proxy=127.0.0.1"]).await;
    let proxy = IpAddr::from([127, 0, 0, 1]);
    let from = |client: &str| format!("X-Forwarded-For: {client}\r\n");
    assert_eq!(status(&server.login(proxy, &from("203.0.113.1")).await), 200);
    assert_eq!(status(&server.login(proxy, &from("203.0.113.1")).await), 429);
    assert_eq!(
        status(&server.login(proxy, &from("198.51.100.1, 203.0.113.1")).await),
        429,
        "the nearest hop counts"
    );
    assert_eq!(status(&server.login(proxy, &from("203.0.113.2")).await), 200);
    assert_eq!(status(&server.login(proxy, &from("2001:db8::1")).await), 200);
    assert_eq!(status(&server.login(proxy, &from("2001:db8::2")).await), 429, "one customer has a /64");
    let untrusted = IpAddr::from([127, 0, 0, 9]);
    assert_eq!(status(&server.login(untrusted, &from("203.0.113.3")).await), 200);
    assert_eq!(
        status(&server.login(untrusted, &from("203.0.113.4")).await),
        429,
        "an untrusted peer cannot name clients"
    );
}
