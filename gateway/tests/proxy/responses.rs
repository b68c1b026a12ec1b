//! What a client receives of a service's response, and which connections are closed after an error.

use std::time::Duration;

use crate::support::{OK_RESPONSE, Peer, Service, TestServer, header, names, status};

/// Alice requests her user; the service has read the request.
async fn requested(server: &TestServer, more: &str) -> (Peer, Peer) {
    let client = server.send(server.head("GET /user/me", more)).await;
    let mut service = server.accounts.accept().await;
    service.read_head().await;
    (client, service)
}

#[actix_web::test]
async fn headers_of_the_connection_and_the_software_are_removed_from_a_response() {
    let server = TestServer::start(&["--allow-origin=https://app.example.org"]).await;
    let (mut client, mut service) = requested(&server, "Origin: https://app.example.org\r\n").await;
    service
        .write(
            "HTTP/1.1 201 Created\r\nServer: secret/1\r\nX-Powered-By: secret\r\nConnection: keep-alive, X-Inner\r\n\
             X-Inner: 1\r\nKeep-Alive: timeout=5\r\nVary: Origin\r\nAccess-Control-Allow-Origin: *\r\n\
             Date: Thu, 01 Jan 1970 00:00:00 GMT\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nLocation: http://elsewhere/\r\n\
             Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX-Trailer: 1\r\n\r\n",
        )
        .await;
    let head = client.read_head().await;
    assert_eq!(status(&head), 201);
    for gone in ["server", "x-powered-by", "x-inner", "keep-alive", "connection", "x-trailer"] {
        assert_eq!(header(&head, gone), None, "{head}");
    }
    assert_eq!(header(&head, "access-control-allow-origin").as_deref(), Some("https://app.example.org"));
    assert_eq!(header(&head, "vary").as_deref(), Some("Origin"));
    assert!(!header(&head, "date").unwrap().contains("1970"), "{head}");
    assert_eq!(header(&head, "location").as_deref(), Some("http://elsewhere/"), "not followed");
    assert_eq!(names(&head).iter().filter(|name| *name == "set-cookie").count(), 2);
    assert_eq!(client.read(12).await, "2\r\n{}\r\n0\r\n\r\n");
}

#[actix_web::test]
async fn unavailable_services_get_503_and_invalid_responses_get_502() {
    let mut server = TestServer::start(&[]).await;
    let long = format!("HTTP/1.1 200 OK\r\nX-Long: {}\r\n\r\n", "x".repeat(20_000));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(100));
    let invalid = [
        "nonsense\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        "HTTP/1.1 200 OK\r\nBad Header: x\r\n\r\n",
        &long,
        &many,
        "",
    ];
    for invalid in invalid {
        let (mut client, mut service) = requested(&server, "").await;
        service.write(invalid).await;
        if invalid.is_empty() {
            drop(service);
            // A read is retried once when the connection closes without a response.
            let mut again = server.accounts.accept().await;
            again.read_head().await;
            drop(again);
        } else {
            assert_eq!(service.read_to_end().await, "", "the connection is not reused");
        }
        let head = client.read_head().await;
        assert_eq!(status(&head), 502, "{invalid:.90}");
        let length = header(&head, "content-length").unwrap().parse().unwrap();
        let body = client.read(length).await;
        assert_eq!(body, r#"{"status":"error","code":502,"message":"Bad Gateway"}"#);
    }
    let accounts = std::mem::replace(&mut server.accounts, Service::start().await);
    let _closed = accounts.stop();
    let mut client = server.send(server.head("GET /user/me", "")).await;
    let head = client.read_head().await;
    assert_eq!((status(&head), header(&head, "retry-after").as_deref()), (503, Some("1")), "{head}");
}

#[actix_web::test]
async fn a_connection_is_reused_only_after_a_complete_response() {
    let server = TestServer::start(&[]).await;
    let (mut client, mut service) = requested(&server, "").await;
    service.write(OK_RESPONSE).await;
    assert_eq!((status(&client.read_head().await), client.read(4).await.as_str()), (200, "fine"));
    client.write(server.head("GET /user/me", "")).await;
    service.read_head().await;
    service.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfine").await;
    assert_eq!(status(&client.read_head().await), 200);
    assert_eq!(client.read(4).await, "fine");
    drop(service);
    assert_eq!(client.read_to_end().await, "", "an incomplete response stays incomplete");
    // Extra bytes after a response are not the response to another request.
    let (mut client, mut service) = requested(&server, "").await;
    service.write(format!("{OK_RESPONSE}HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")).await;
    assert_eq!((status(&client.read_head().await), client.read(4).await.as_str()), (200, "fine"));
    client.write(server.head("GET /user/me", "")).await;
    let mut next = server.accounts.accept().await;
    next.read_head().await;
    next.write(OK_RESPONSE).await;
    assert_eq!((status(&client.read_head().await), client.read(4).await.as_str()), (200, "fine"));
}

#[actix_web::test]
async fn a_client_that_disconnects_cancels_its_request() {
    let server = TestServer::start(&[]).await;
    let client = server.send(server.head("GET /socket.io/?EIO=4&transport=polling&sid=abc.one", "")).await;
    let mut node = server.one.accept().await;
    node.read_head().await;
    drop(client);
    assert_eq!(node.read_to_end().await, "", "the node receives the cancellation");
    let (mut client, mut service) = requested(&server, "").await;
    service.write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf").await;
    client.read_head().await;
    drop(client);
    assert_eq!(service.read_to_end().await, "");
}

#[actix_web::test]
async fn a_slow_client_applies_backpressure_to_the_service() {
    let server = TestServer::start(&["--unread-answers=1024"]).await;
    let (mut client, mut service) = requested(&server, "").await;
    let size = 64 * 1024 * 1024;
    service.write("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    let mut written = 0;
    // Kernels buffer a few MiB for both connections. The rest waits at the service.
    while tokio::time::timeout(Duration::from_millis(500), service.write(&chunk)).await.is_ok() {
        written += chunk.len();
        assert!(written < size, "no backpressure");
    }
    assert_eq!(status(&client.read_head().await), 200);
    client.read(written.min(1_000_000)).await;
}
