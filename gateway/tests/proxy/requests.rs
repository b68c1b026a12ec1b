//! What a service receives of a client's request.

use crate::support::{OK_RESPONSE, TestServer, header, identity, names, status};

#[actix_web::test]
async fn a_request_arrives_in_canonical_form_with_the_identity_of_its_session() {
    let server = TestServer::start(&[]).await;
    let messy = server.head(
        "POST http://chat.example/rooms/team%3Ared/messages?a=%2e%2e&b",
        "Connection: cookie, x-authenticated-identity, content-type, keep-alive, traceparent, x-mine\r\n\
         X-Mine: 1\r\nTraceparent: 1\r\nX-Authenticated-User: eve\r\nX_Authenticated_User: eve\r\n\
         X-Authenticated-Identity: 1:eve:0:9999999999999:00\r\nx_authenticated_identity: 1:eve:0:9:00\r\n\
         X-Real-IP: 9.9.9.9\r\nX-Forwarded-For: 9.9.9.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: eve\r\n\
         Forwarded: for=9.9.9.9\r\nTE: trailers\r\nTrailer: X-Authenticated-User\r\nKeep-Alive: timeout=9\r\n\
         Proxy-Connection: keep-alive\r\nProxy-Authorization: Basic eve\r\nExpect: 100-continue\r\n\
         Accept-Encoding: gzip\r\nContent-Type: application/json\r\nUser-Agent: me\r\nTransfer-Encoding: chunked\r\n",
    );
    let mut client = server
        .send(format!(
            "{messy}1;ext=\"1\"\r\n{{\r\n1 \r\n}}\r\n0\r\nX-Authenticated-User: eve\r\nCookie: eve\r\n\r\n"
        ))
        .await;
    let mut service = server.one.accept().await;
    let head = service.read_head().await;
    assert!(head.starts_with("POST /rooms/team%3Ared/messages?a=%2e%2e&b HTTP/1.1\r\n"), "{head}");
    assert_eq!(service.read(2).await, "{}");
    let expected = "content-length content-type cookie host user-agent \
                    x-authenticated-identity x-forwarded-for x-forwarded-host x-forwarded-proto";
    assert_eq!(names(&head).join(" "), expected, "{head}");
    assert!(!head.contains("eve") && !head.contains("9.9.9.9"), "{head}");
    assert_eq!(header(&head, "content-length").as_deref(), Some("2"));
    assert_eq!(header(&head, "host"), Some(format!("127.0.0.1:{}", server.one.port())));
    assert_eq!(header(&head, "x-forwarded-host").as_deref(), Some("chat.example"));
    assert_eq!(header(&head, "x-forwarded-for").as_deref(), Some("127.0.0.1"));
    assert_eq!(header(&head, "x-forwarded-proto").as_deref(), Some("http"));
    assert_eq!(identity(&head).unwrap().username.as_str(), "alice");
    service.write(OK_RESPONSE).await;
    let interim = client.read_head().await;
    assert_eq!(status(&interim), 100, "{interim}");
    assert_eq!(status(&client.read_head().await), 200);
    assert_eq!(client.read(4).await, "fine");
    service.assert_idle();
    server.two.assert_no_connection();
}

#[actix_web::test]
async fn ambiguous_requests_reach_no_service() {
    let server = TestServer::start(&[]).await;
    let smuggled = "GET /rooms HTTP/1.1\r\nHost: a\r\n\r\n";
    let poll = "GET /socket.io/?EIO=4&transport=polling";
    let table = [
        ("POST /rooms", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n", 400),
        ("POST /rooms", "Content-Length: 2\r\nContent-Length: 2\r\n", "{}", 400),
        ("POST /rooms", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n", 400),
        ("POST /rooms", "Transfer-Encoding: xchunked\r\n", "0\r\n\r\n", 400),
        ("POST /rooms", "Content-Length: +2\r\n", "{}", 400),
        ("GET /rooms", "Content-Length: 2\r\n", "{}", 400),
        (poll, "Content-Length: 2\r\n", "{}", 400),
        (poll, "Transfer-Encoding: chunked\r\n", "1\r\nx\r\n0\r\n\r\n", 400),
        ("GET /rooms", "Connection: Upgrade\r\nUpgrade: websocket\r\n", smuggled, 400),
        ("GET /nowhere", "Connection: Upgrade\r\nUpgrade: websocket\r\n", smuggled, 400),
        ("GET /socket.io/x", "Connection: Upgrade\r\nUpgrade: websocket\r\n", smuggled, 400),
        (poll, "Connection: Upgrade\r\nUpgrade: h2c, websocket\r\n", "", 400),
        ("GET /rooms", "Host: b\r\n", "", 400),
        ("GET http://eve/rooms", "", "", 400),
        ("GET //rooms", "", "", 400),
        ("GET /rooms/..%2fuser", "", "", 400),
        ("GET /rooms/%2e%2e/user/me", "", "", 400),
        ("OPTIONS *", "", "", 400),
        ("get /rooms", "", "", 405),
        ("CONNECT /rooms", "", smuggled, 405),
        ("TRACE /rooms", "", "", 405),
    ];
    for (line, more, body, want) in table {
        let kind = if line.starts_with("POST") { "Content-Type: application/json\r\n" } else { "" };
        let close = if more.contains("Connection") { "" } else { "Connection: close\r\n" };
        let head = server.head(line, &format!("{kind}{more}{close}"));
        let response = server.send(format!("{head}{body}")).await.read_to_end().await;
        assert_eq!(
            (status(&response), response.matches("HTTP/1.1 ").count()),
            (want, 1),
            "{line} {more}: {response}"
        );
    }
    for service in [&server.accounts, &server.one, &server.two] {
        service.assert_no_connection();
    }
}

#[actix_web::test]
async fn each_request_has_its_own_identity_and_an_anonymous_request_has_no_identity() {
    let server = TestServer::start(&[]).await;
    let login = "POST /user/login HTTP/1.1\r\nHost: a\r\nX-Authenticated-Identity: eve\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
    let pipelined = format!("{login}{}", server.head("GET /user/me", "Connection: close\r\n"));
    let mut client = server.send(pipelined).await;
    let mut service = server.accounts.accept().await;
    let head = service.read_head().await;
    assert_eq!((service.read(2).await.as_str(), identity(&head)), ("{}", None), "{head}");
    service.assert_idle();
    service.write(OK_RESPONSE).await;
    let head = service.read_head().await;
    assert!(head.starts_with("GET /user/me HTTP/1.1\r\n"), "on the same connection: {head}");
    assert_eq!(identity(&head).unwrap().username.as_str(), "alice");
    assert_eq!(header(&head, "content-length"), None, "{head}");
    service.write(OK_RESPONSE).await;
    assert_eq!(client.read_to_end().await.matches("fine").count(), 2);
}

#[actix_web::test]
async fn address_and_scheme_of_a_trusted_proxy_are_forwarded() {
    let server = TestServer::start(&["--trusted-proxy=127.0.0.1"]).await;
    let forwarded =
        "X-Forwarded-For: 9.9.9.9, 203.0.113.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: eve\r\n";
    let _client = server.send(server.head("GET /user/me", forwarded)).await;
    let head = server.accounts.accept().await.read_head().await;
    assert_eq!(header(&head, "x-forwarded-for").as_deref(), Some("203.0.113.7"));
    assert_eq!(header(&head, "x-forwarded-proto").as_deref(), Some("https"));
    assert_eq!(header(&head, "x-forwarded-host").as_deref(), Some("chat.example"));
}

#[actix_web::test]
async fn an_offer_of_another_protocol_is_not_forwarded() {
    let server = TestServer::start(&[]).await;
    let offer =
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n";
    let post = format!("{offer}Content-Type: application/json\r\nContent-Length: 2\r\n");
    for (line, more, body) in [("GET /rooms", offer, ""), ("POST /rooms/den/messages", &post, "{}")] {
        let mut client = server.send(server.head(line, more) + body).await;
        let mut node = server.one.accept().await;
        let head = node.read_head().await;
        for name in ["upgrade", "http2-settings", "connection"] {
            assert_eq!(header(&head, name), None, "{head}");
        }
        assert_eq!(node.read(body.len()).await, body);
        node.write(OK_RESPONSE).await;
        let response = client.read_to_end().await;
        assert_eq!(status(&response), 200, "{response}");
        // The binary's own server removes the offer from the head; the library's server closes the connection after it.
        assert_eq!(header(&response, "connection").as_deref(), Some("close"), "{response}");
    }
}

#[actix_web::test]
async fn logins_and_registrations_have_separate_limits_for_all_spellings() {
    let server = TestServer::start(&["--login-rate=1", "--login-burst=1"]).await;
    let post = |path: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}"
        )
    };
    for spelt in [
        ["/user/login", "/user/%6cogin", "/%75ser/login"],
        ["/user/register", "/user/%72egister", "/%75ser/register"],
    ] {
        let mut client = server.send(post(spelt[0])).await;
        let mut service = server.accounts.accept().await;
        service.read_head().await;
        service.write(OK_RESPONSE).await;
        assert_eq!(status(&client.read_to_end().await), 200, "{spelt:?}");
        for path in spelt {
            assert_eq!(status(&server.send(post(path)).await.read_to_end().await), 429, "{path}");
        }
    }
    server.accounts.assert_no_connection();
}

#[actix_web::test]
async fn a_polling_body_has_a_size_limit_and_a_timeout() {
    let server = TestServer::start(&["--body-timeout=1"]).await;
    let post = |length: usize| {
        server.head(
            "POST /socket.io/?EIO=4&transport=polling&sid=abc.one",
            &format!("Content-Type: text/plain\r\nContent-Length: {length}\r\n"),
        )
    };
    let mut client = server.send(format!("{}{}", post(1_024), "4".repeat(1_024))).await;
    let mut service = server.one.accept().await;
    assert_eq!(header(&service.read_head().await, "content-length").as_deref(), Some("1024"));
    service.read(1_024).await;
    service.write(OK_RESPONSE).await;
    assert_eq!(status(&client.read_head().await), 200);
    let large = server.send(format!("{}{}", post(1_025), "4".repeat(1_025))).await.read_to_end().await;
    assert_eq!(status(&large), 413, "{large}");
    let slow = server.send(format!("{}4", post(10))).await.read_to_end().await;
    assert_eq!(status(&slow), 408, "{slow}");
    server.one.assert_no_connection();
}
