//! Origins and CORS.

use super::*;

#[actix_web::test]
async fn a_listed_origin_may_open_only_a_socket_without_credentials() {
    let fixture = fixture(&[]).await;
    let listed = ("origin", "https://app.example");
    let received = send(&fixture.gateway, get("/socket.io/").insert_header(listed)).await;
    assert_eq!((received.status, &received.body["user"]), (200, &Value::Null));
    assert_eq!(send(&fixture.gateway, get("/user/me").insert_header(listed)).await.status, 401);
    assert_eq!(send(&fixture.gateway, post("/rooms").insert_header(listed)).await.status, 401);
    let wrong = get("/socket.io/").insert_header(listed).insert_header(("cookie", "auth_token=stale"));
    let received = send(&fixture.gateway, wrong).await;
    assert_eq!((received.status, &received.body["user"]), (200, &Value::Null), "the token may be in CONNECT");
    let own = get("/socket.io/").insert_header(("origin", "http://chat.example"));
    assert_eq!(send(&fixture.gateway, own).await.status, 401);
}

#[actix_web::test]
async fn pages_of_other_origins_may_not_open_sockets_poll_or_change_state() {
    let fixture = fixture(&[]).await;
    let foreign = [("origin", "http://evil.example"), ("origin", "null"), ("sec-fetch-site", "cross-site")];
    let upgrade = ("upgrade", "websocket");
    for header in foreign {
        let requests = [
            get("/socket.io/"),
            get("/socket.io/").insert_header(upgrade),
            post("/socket.io/"),
            post("/user/login"),
            post("/rooms"),
            get("/rooms/a").method(Method::DELETE),
            get("/rooms/a").method(Method::PATCH),
        ];
        for request in requests {
            let request = request.insert_header(header).insert_header(fixture.cookie());
            let received = send(&fixture.gateway, request).await;
            assert_refused(&received, 403, &Error::Origin.to_string());
        }
    }
    let nameless = get("/socket.io/").insert_header(upgrade).insert_header(("sec-fetch-site", "same-origin"));
    assert_eq!(send(&fixture.gateway, nameless.insert_header(fixture.cookie())).await.status, 403);
    let own =
        get("/socket.io/").insert_header(("origin", "http://chat.example")).insert_header(fixture.cookie());
    assert_eq!(send(&fixture.gateway, own).await.status, 200);
}

#[actix_web::test]
async fn behind_a_trusted_proxy_the_forwarded_scheme_decides_the_origin() {
    let fixture = fixture(&[]).await;
    let app = test::init_service(App::new().configure(services).wrap(fixture.gateway.middleware())).await;
    for (peer, status) in [([10, 0, 0, 1], 200), ([203, 0, 113, 1], 403)] {
        let request = post("/user/login")
            .insert_header(("origin", "https://chat.example"))
            .insert_header(("x-forwarded-proto", "https"))
            .peer_addr(SocketAddr::from((peer, 1)))
            .to_request();
        assert_eq!(app.call(request).await.unwrap().status().as_u16(), status, "{peer:?}");
    }
}

#[actix_web::test]
async fn only_pages_of_listed_origins_pass_cors() {
    let fixture = fixture(&[]).await;
    let preflight = async |origin: &str, path: &str| {
        let request = get(path).method(Method::OPTIONS).insert_header(("origin", origin));
        let request = request.insert_header(("access-control-request-method", "POST"));
        let request = request.insert_header(("access-control-request-headers", "content-type"));
        send(&fixture.gateway, request).await
    };
    let preflighted = preflight("https://app.example", "/socket.io/").await;
    assert_eq!(preflighted.status, 204);
    let header = |name: &str| preflighted.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    assert_eq!(header("access-control-allow-origin").as_deref(), Some("https://app.example"));
    assert_eq!(header("access-control-allow-credentials").as_deref(), Some("true"));
    assert_eq!(header("access-control-allow-methods").as_deref(), Some("GET, POST"));
    assert_eq!(header("access-control-allow-headers").as_deref(), Some("content-type"));
    assert_eq!(header("access-control-max-age").as_deref(), Some("60"));
    assert_eq!(header("access-control-allow-private-network"), None, "not requested");
    let refused = get("/user/me").insert_header(("origin", "https://app.example"));
    let refused = send(&fixture.gateway, refused).await;
    assert_eq!(refused.status, 401);
    assert!(refused.headers.contains_key("access-control-allow-origin"), "also on refusals");
    assert_ne!(preflight("https://app.example", "/nowhere").await.status, 204);
    let evil = preflight("https://evil.example", "/socket.io/").await;
    assert!(evil.status != 204 && !evil.headers.contains_key("access-control-allow-origin"));
}

#[actix_web::test]
async fn an_opaque_origin_passes_by_its_flag_and_without_cookies() {
    let closed = fixture(&[]).await;
    let refused = get("/socket.io/").insert_header(("origin", "null")).insert_header(closed.bearer());
    assert_eq!(send(&closed.gateway, refused).await.status, 403);
    let open = fixture(&["--allow-opaque-origin"]).await;
    for origin in ["null", "file://"] {
        let opaque = ("origin", origin);
        let by_connect = get("/socket.io/").insert_header(opaque).insert_header(open.cookie());
        let received = send(&open.gateway, by_connect).await;
        assert_eq!((received.status, &received.body["user"]), (200, &Value::Null), "{origin}");
        let header = |name: &str| received.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(header("access-control-allow-origin").as_deref(), Some(origin));
        assert_eq!(header("access-control-allow-credentials"), None);
        let by_cookie = post("/rooms").insert_header(opaque).insert_header(open.cookie());
        assert_eq!(send(&open.gateway, by_cookie).await.status, 401, "{origin}");
        let by_token = get("/user/me").insert_header(opaque).insert_header(open.bearer());
        assert_eq!(send(&open.gateway, by_token).await.body["user"], "alice", "{origin}");
    }
}

#[actix_web::test]
async fn apps_with_custom_schemes_may_read_responses_with_cookies() {
    let fixture = fixture(&["--allow-origin=capacitor://localhost,tauri://localhost"]).await;
    for origin in ["capacitor://localhost", "tauri://localhost", "https://app.example/"] {
        let request = get("/user/me").insert_header(("origin", origin)).insert_header(fixture.cookie());
        let received = send(&fixture.gateway, request).await;
        assert_eq!((received.status, &received.body["user"]), (200, &json!("alice")), "{origin}");
        let header = |name: &str| received.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(header("access-control-allow-origin").as_deref(), Some(origin), "unchanged");
        assert_eq!(header("access-control-allow-credentials").as_deref(), Some("true"));
        let exposed = header("access-control-expose-headers").unwrap();
        for name in ["Allow", "Retry-After", "WWW-Authenticate"] {
            assert!(exposed.split(", ").any(|exposed| exposed == name), "{name}: {exposed}");
        }
    }
    let native =
        get("/socket.io/").insert_header(("origin", "ws://chat.example")).insert_header(fixture.cookie());
    assert_eq!(send(&fixture.gateway, native).await.status, 200, "socket.io-client-swift");
}
