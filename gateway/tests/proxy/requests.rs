//! What of a client's request reaches a service.

use crate::stage::{FINE, Stage, header, identity, names, status};

#[actix_web::test]
async fn a_request_arrives_in_canonical_form_with_the_sessions_identity_and_no_other() {
    let stage = Stage::opens(&[]).await;
    let messy = stage.head(
        "POST http://chat.example/rooms/team%3Ared/messages?a=%2e%2e&b",
        "Connection: cookie, x-authenticated-identity, content-type, keep-alive, x-mine\r\n\
         X-Mine: 1\r\nX-Authenticated-User: eve\r\nX_Authenticated_User: eve\r\n\
         X-Authenticated-Identity: 1:eve:0:9999999999999:00\r\nx_authenticated_identity: 1:eve:0:9:00\r\n\
         X-Real-IP: 9.9.9.9\r\nX-Forwarded-For: 9.9.9.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: eve\r\n\
         Forwarded: for=9.9.9.9\r\nTE: trailers\r\nTrailer: X-Authenticated-User\r\nKeep-Alive: timeout=9\r\n\
         Proxy-Connection: keep-alive\r\nProxy-Authorization: Basic eve\r\nExpect: 100-continue\r\n\
         Accept-Encoding: gzip\r\nContent-Type: application/json\r\nUser-Agent: me\r\nTransfer-Encoding: chunked\r\n",
    );
    let mut client = stage
        .sends(format!(
            "{messy}1;ext=\"1\"\r\n{{\r\n1 \r\n}}\r\n0\r\nX-Authenticated-User: eve\r\nCookie: eve\r\n\r\n"
        ))
        .await;
    let mut service = stage.one.accepts().await;
    let head = service.head().await;
    assert!(head.starts_with("POST /rooms/team%3Ared/messages?a=%2e%2e&b HTTP/1.1\r\n"), "{head}");
    assert_eq!(service.takes(2).await, "{}");
    let known = [
        "content-length",
        "content-type",
        "cookie",
        "host",
        "user-agent",
        "x-authenticated-identity",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
    ];
    assert_eq!(names(&head), known, "{head}");
    assert!(!head.contains("eve") && !head.contains("9.9.9.9"), "{head}");
    assert_eq!(header(&head, "content-length").as_deref(), Some("2"));
    assert_eq!(header(&head, "host"), Some(format!("127.0.0.1:{}", stage.one.port())));
    assert_eq!(header(&head, "x-forwarded-host").as_deref(), Some("chat.example"));
    assert_eq!(header(&head, "x-forwarded-for").as_deref(), Some("127.0.0.1"));
    assert_eq!(header(&head, "x-forwarded-proto").as_deref(), Some("http"));
    assert_eq!(identity(&head).unwrap().username.as_str(), "alice");
    service.writes(FINE).await;
    let interim = client.head().await;
    assert_eq!(status(&interim), 100, "{interim}");
    assert_eq!(status(&client.head().await), 200);
    assert_eq!(client.takes(4).await, "fine");
    service.is_silent();
    stage.two.is_untouched();
}

#[actix_web::test]
async fn what_could_be_read_in_two_ways_reaches_nobody() {
    let stage = Stage::opens(&[]).await;
    let json = "Content-Type: application/json\r\n";
    let smuggled = "GET /rooms HTTP/1.1\r\nHost: a\r\n\r\n";
    let table = [
        (
            "POST /rooms",
            format!("{json}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
            "0\r\n\r\n",
            400,
        ),
        ("POST /rooms", format!("{json}Content-Length: 2\r\nContent-Length: 2\r\n"), "{}", 400),
        (
            "POST /rooms",
            format!("{json}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
            "0\r\n\r\n",
            400,
        ),
        ("POST /rooms", format!("{json}Transfer-Encoding: xchunked\r\n"), "0\r\n\r\n", 400),
        ("POST /rooms", format!("{json}Content-Length: +2\r\n"), "{}", 400),
        ("GET /rooms", "Content-Length: 2\r\n".to_owned(), "{}", 400),
        ("GET /socket.io/?EIO=4&transport=polling", "Content-Length: 2\r\n".to_owned(), "{}", 400),
        (
            "GET /socket.io/?EIO=4&transport=polling",
            "Transfer-Encoding: chunked\r\n".to_owned(),
            "1\r\nx\r\n0\r\n\r\n",
            400,
        ),
        ("GET /rooms", "Connection: Upgrade\r\nUpgrade: websocket\r\n".to_owned(), smuggled, 400),
        (
            "GET /socket.io/?EIO=4&transport=polling",
            "Connection: Upgrade\r\nUpgrade: h2c, websocket\r\n".to_owned(),
            "",
            400,
        ),
        ("GET http://eve/rooms", String::new(), "", 400),
        ("GET //rooms", String::new(), "", 400),
        ("GET /rooms/..%2fuser", String::new(), "", 400),
        ("GET /rooms/%2e%2e/user/me", String::new(), "", 400),
        ("get /rooms", String::new(), "", 405),
        ("CONNECT /rooms", String::new(), smuggled, 405),
    ];
    for (line, more, body, want) in table {
        let close = if more.contains("Connection") { "" } else { "Connection: close\r\n" };
        let head = stage.head(line, &format!("{more}{close}"));
        let answer = stage.sends(format!("{head}{body}")).await.rest().await;
        assert_eq!(
            (status(&answer), answer.matches("HTTP/1.1 ").count()),
            (want, 1),
            "{line} {more}: {answer}"
        );
    }
    for service in [&stage.accounts, &stage.one, &stage.two] {
        service.is_untouched();
    }
}

#[actix_web::test]
async fn who_is_nobody_is_told_to_nobody_and_each_request_has_its_own_identity() {
    let stage = Stage::opens(&[]).await;
    let login = "POST /user/login HTTP/1.1\r\nHost: a\r\nX-Authenticated-Identity: eve\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
    let pipelined = format!("{login}{}", stage.head("GET /user/me", "Connection: close\r\n"));
    let mut client = stage.sends(pipelined).await;
    let mut service = stage.accounts.accepts().await;
    let head = service.head().await;
    assert_eq!((service.takes(2).await.as_str(), identity(&head)), ("{}", None), "{head}");
    service.is_silent();
    service.writes(FINE).await;
    let head = service.head().await;
    assert!(head.starts_with("GET /user/me HTTP/1.1\r\n"), "on the same connection: {head}");
    assert_eq!(identity(&head).unwrap().username.as_str(), "alice");
    assert_eq!(header(&head, "content-length"), None, "{head}");
    service.writes(FINE).await;
    assert_eq!(client.rest().await.matches("fine").count(), 2);
}

#[actix_web::test]
async fn a_trusted_proxy_says_where_the_client_is_and_that_it_came_by_tls() {
    let stage = Stage::opens(&["--trusted-proxy=127.0.0.1"]).await;
    let said =
        "X-Forwarded-For: 9.9.9.9, 203.0.113.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: eve\r\n";
    let _client = stage.sends(stage.head("GET /user/me", said)).await;
    let head = stage.accounts.accepts().await.head().await;
    assert_eq!(header(&head, "x-forwarded-for").as_deref(), Some("203.0.113.7"));
    assert_eq!(header(&head, "x-forwarded-proto").as_deref(), Some("https"));
    assert_eq!(header(&head, "x-forwarded-host").as_deref(), Some("chat.example"));
}

#[actix_web::test]
async fn an_offer_of_another_protocol_stays_at_the_gateway() {
    let stage = Stage::opens(&[]).await;
    let offer =
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n";
    let body = r#"{"text":"hello"}"#;
    let length = format!("{offer}Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    for (line, more, body) in [("GET /rooms", offer, ""), ("POST /rooms/den/messages", &length, body)] {
        let client = stage.sends(stage.head(line, more) + body);
        let mut client = client.await;
        let mut node = stage.one.accepts().await;
        let head = node.head().await;
        for name in ["upgrade", "http2-settings", "connection"] {
            assert_eq!(header(&head, name), None, "{head}");
        }
        assert_eq!(node.takes(body.len()).await, body);
        node.writes(FINE).await;
        let answer = client.rest().await;
        assert_eq!(status(&answer), 200, "{answer}");
        // What the binary's own server takes out of heads ends a connection of the library's.
        assert_eq!(header(&answer, "connection").as_deref(), Some("close"), "{answer}");
    }
}

#[actix_web::test]
async fn logins_and_registrations_are_limited_each_however_they_are_spelt() {
    let stage = Stage::opens(&["--login-rate=1", "--login-burst=1"]).await;
    let post = |path: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}"
        )
    };
    for spelt in [
        ["/user/login", "/user/%6cogin", "/%75ser/login"],
        ["/user/register", "/user/%72egister", "/%75ser/register"],
    ] {
        let mut client = stage.sends(post(spelt[0])).await;
        let mut service = stage.accounts.accepts().await;
        service.head().await;
        service.writes(FINE).await;
        assert_eq!(status(&client.rest().await), 200, "{spelt:?}");
        for path in spelt {
            assert_eq!(status(&stage.sends(post(path)).await.rest().await), 429, "{path}");
        }
    }
    stage.accounts.is_untouched();
}

#[actix_web::test]
async fn a_polling_body_has_a_limit_and_a_time() {
    let stage = Stage::opens(&["--body-timeout=1"]).await;
    let post = |length: usize| {
        stage.head(
            "POST /socket.io/?EIO=4&transport=polling&sid=abc.one",
            &format!("Content-Type: text/plain\r\nContent-Length: {length}\r\n"),
        )
    };
    let mut client = stage.sends(format!("{}{}", post(1_024), "4".repeat(1_024))).await;
    let mut service = stage.one.accepts().await;
    assert_eq!(header(&service.head().await, "content-length").as_deref(), Some("1024"));
    service.takes(1_024).await;
    service.writes(FINE).await;
    assert_eq!(status(&client.head().await), 200);
    let large = stage.sends(format!("{}{}", post(1_025), "4".repeat(1_025))).await.rest().await;
    assert_eq!(status(&large), 413, "{large}");
    let slow = stage.sends(format!("{}4", post(10))).await.rest().await;
    assert_eq!(status(&slow), 408, "{slow}");
    stage.one.is_untouched();
}
