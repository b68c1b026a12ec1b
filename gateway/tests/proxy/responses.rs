//! What of a service's answer reaches the client, and what happens to connections on which something went wrong.

use std::time::{Duration, Instant};

use crate::stage::{FINE, PATIENCE, Peer, Service, Stage, header, names, status};

/// Alice asks who she is; the service has read it.
async fn asked(stage: &Stage, more: &str) -> (Peer, Peer) {
    let client = stage.sends(stage.head("GET /user/me", more)).await;
    let mut service = stage.accounts.accepts().await;
    service.head().await;
    (client, service)
}

#[actix_web::test]
async fn an_answer_comes_back_without_what_is_the_connections_or_says_too_much() {
    let stage = Stage::opens(&["--allow-origin=https://app.example.org"]).await;
    let (mut client, mut service) = asked(&stage, "Origin: https://app.example.org\r\n").await;
    service
        .writes(
            "HTTP/1.1 201 Created\r\nServer: secret/1\r\nX-Powered-By: secret\r\nConnection: keep-alive, X-Inner\r\n\
             X-Inner: 1\r\nKeep-Alive: timeout=5\r\nVary: Origin\r\nAccess-Control-Allow-Origin: *\r\n\
             Date: Thu, 01 Jan 1970 00:00:00 GMT\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nLocation: http://elsewhere/\r\n\
             Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX-Trailer: 1\r\n\r\n",
        )
        .await;
    let head = client.head().await;
    assert_eq!(status(&head), 201);
    for gone in ["server", "x-powered-by", "x-inner", "keep-alive", "connection", "x-trailer"] {
        assert_eq!(header(&head, gone), None, "{head}");
    }
    assert_eq!(header(&head, "access-control-allow-origin").as_deref(), Some("https://app.example.org"));
    assert_eq!(header(&head, "vary").as_deref(), Some("Origin"));
    assert!(!header(&head, "date").unwrap().contains("1970"), "{head}");
    assert_eq!(header(&head, "location").as_deref(), Some("http://elsewhere/"), "not followed");
    assert_eq!(names(&head).iter().filter(|name| *name == "set-cookie").count(), 2);
    assert_eq!(client.takes(12).await, "2\r\n{}\r\n0\r\n\r\n");
}

#[actix_web::test]
async fn a_listed_pages_question_is_answered_by_the_door_alone() {
    let stage = Stage::opens(&["--allow-origin=https://app.example.org"]).await;
    let preflight = "OPTIONS /socket.io/?EIO=4 HTTP/1.1\r\nHost: a\r\nConnection: close\r\nOrigin: https://app.example.org\r\nAccess-Control-Request-Method: POST\r\n\r\n";
    let answer = stage.sends(preflight).await.rest().await;
    assert_eq!(status(&answer), 204, "{answer}");
    assert_eq!(header(&answer, "access-control-allow-origin").as_deref(), Some("https://app.example.org"));
    stage.one.is_untouched();
    stage.two.is_untouched();
}

#[actix_web::test]
async fn a_service_that_is_away_or_talks_nonsense_is_one_refusal_in_our_shape() {
    let mut stage = Stage::opens(&[]).await;
    let long = format!("HTTP/1.1 200 OK\r\nX-Long: {}\r\n\r\n", "x".repeat(20_000));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(100));
    let nonsense = [
        "nonsense\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        "HTTP/1.1 200 OK\r\nBad Header: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\n: nameless\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnot hex\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcdef\r\n",
        &long,
        &many,
        "",
    ];
    for nonsense in nonsense {
        let (mut client, mut service) = asked(&stage, "").await;
        service.writes(nonsense).await;
        if nonsense.is_empty() {
            drop(service);
            // A read is asked for once more where the connection just ends.
            let mut again = stage.accounts.accepts().await;
            again.head().await;
            drop(again);
        } else {
            assert_eq!(service.rest().await, "", "never used again");
        }
        let head = client.head().await;
        assert_eq!(
            (status(&head), header(&head, "content-type").as_deref()),
            (502, Some("application/json"))
        );
        let length = header(&head, "content-length").unwrap().parse().unwrap();
        let body = client.takes(length).await;
        assert_eq!(body, r#"{"status":"error","code":502,"message":"Bad Gateway"}"#);
    }
    let accounts = std::mem::replace(&mut stage.accounts, Service::opens().await);
    let _closed = accounts.closes();
    let started = Instant::now();
    let mut client = stage.sends(stage.head("GET /user/me", "")).await;
    let head = client.head().await;
    assert_eq!((status(&head), header(&head, "retry-after").as_deref()), (503, Some("1")), "{head}");
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[actix_web::test]
async fn a_connection_is_used_again_when_all_went_well_and_only_then() {
    let stage = Stage::opens(&[]).await;
    let (mut client, mut service) = asked(&stage, "").await;
    service.writes(FINE).await;
    assert_eq!((status(&client.head().await), client.takes(4).await.as_str()), (200, "fine"));
    client.writes(stage.head("GET /user/me", "")).await;
    service.head().await;
    service.writes("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfine").await;
    assert_eq!(status(&client.head().await), 200);
    assert_eq!(client.takes(4).await, "fine");
    drop(service);
    assert_eq!(client.rest().await, "", "half an answer ends as half an answer");
    // Extra bytes behind an answer are no answer to anybody.
    let (mut client, mut service) = asked(&stage, "").await;
    service.writes(format!("{FINE}HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")).await;
    assert_eq!((status(&client.head().await), client.takes(4).await.as_str()), (200, "fine"));
    client.writes(stage.head("GET /user/me", "")).await;
    let mut next = stage.accounts.accepts().await;
    next.head().await;
    next.writes(FINE).await;
    assert_eq!((status(&client.head().await), client.takes(4).await.as_str()), (200, "fine"));
}

#[actix_web::test]
async fn a_client_that_goes_away_takes_its_request_with_it() {
    let stage = Stage::opens(&[]).await;
    let polls = [
        "GET /socket.io/?EIO=4&transport=polling&sid=abc.one",
        "GET /socket.io/?EIO=4&transport=polling&sid=abc.one&t=2",
    ];
    for poll in polls {
        let client = stage.sends(stage.head(poll, "")).await;
        let mut node = stage.one.accepts().await;
        node.head().await;
        node.is_silent();
        drop(client);
        assert_eq!(node.rest().await, "", "the node hears that nobody waits");
    }
    let (client, mut service) = asked(&stage, "").await;
    service.writes("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf").await;
    let mut client = client;
    client.head().await;
    drop(client);
    assert_eq!(service.rest().await, "");
}

#[actix_web::test]
async fn a_large_answer_waits_at_the_service_until_the_client_reads() {
    let stage = Stage::opens(&["--unread-answers=1024"]).await;
    let (mut client, mut service) = asked(&stage, "").await;
    let size = 64 * 1024 * 1024;
    service.writes("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    let mut written = 0;
    // Kernels buffer a few MiB for both connections; the rest stays here.
    while tokio::time::timeout(Duration::from_millis(500), service.writes(&chunk)).await.is_ok() {
        written += chunk.len();
        assert!(written < size, "nothing holds it back");
    }
    assert_eq!(status(&client.head().await), 200);
    let started = Instant::now();
    client.takes(written.min(1_000_000)).await;
    assert!(started.elapsed() < PATIENCE);
}
