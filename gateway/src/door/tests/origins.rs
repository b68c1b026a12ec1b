//! Which pages may ask.

use super::*;

#[actix_web::test]
async fn a_listed_origin_may_open_a_socket_and_say_later_who_it_is_but_nothing_else() {
    let stage = stage(&[]).await;
    let listed = ("origin", "https://app.example");
    let seen = ask(&stage.gateway, get("/socket.io/").insert_header(listed)).await;
    assert_eq!((seen.status, &seen.body["user"]), (200, &Value::Null));
    assert_eq!(ask(&stage.gateway, get("/user/me").insert_header(listed)).await.status, 401);
    assert_eq!(ask(&stage.gateway, post("/rooms").insert_header(listed)).await.status, 401);
    let wrong = get("/socket.io/").insert_header(listed).insert_header(("cookie", "auth_token=stale"));
    assert_eq!(ask(&stage.gateway, wrong).await.status, 401);
    let own = get("/socket.io/").insert_header(("origin", "http://chat.example"));
    assert_eq!(ask(&stage.gateway, own).await.status, 401);
}

#[actix_web::test]
async fn pages_of_other_origins_may_not_open_sockets_poll_or_change_anything() {
    let stage = stage(&[]).await;
    let foreign = [
        ("origin", "http://evil.example"),
        ("origin", "null"),
        ("origin", "http://sub.chat.example"),
        ("origin", "http://chat.example:8081"),
        ("origin", "https://chat.example"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ];
    let upgrade = ("upgrade", "websocket");
    for header in foreign {
        let requests = [
            get("/socket.io/"),
            get("/socket.io/").insert_header(upgrade),
            post("/socket.io/"),
            post("/user/login"),
            post("/rooms"),
            TestRequest::delete().uri("/rooms/a").insert_header(("host", "chat.example")),
            TestRequest::patch().uri("/rooms/a").insert_header(("host", "chat.example")),
        ];
        for request in requests {
            let request = request.insert_header(header).insert_header(stage.cookie());
            assert_refused(&ask(&stage.gateway, request).await, 403, "this origin is not allowed");
        }
    }
    let nameless = get("/socket.io/").insert_header(upgrade).insert_header(("sec-fetch-site", "same-origin"));
    assert_eq!(ask(&stage.gateway, nameless.insert_header(stage.cookie())).await.status, 403);
    let own =
        get("/socket.io/").insert_header(("origin", "http://chat.example")).insert_header(stage.cookie());
    assert_eq!(ask(&stage.gateway, own).await.status, 200);
}

#[actix_web::test]
async fn behind_a_trusted_proxy_our_origin_is_the_one_the_browser_sees() {
    let stage = stage(&[]).await;
    let app = test::init_service(App::new().configure(services).wrap(stage.gateway.door())).await;
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
async fn pages_of_listed_origins_may_ask_and_read_and_no_others() {
    let stage = stage(&[]).await;
    let ask = |origin: &'static str, path: &'static str| {
        TestRequest::with_uri(path)
            .method(Method::OPTIONS)
            .insert_header(("host", "chat.example"))
            .insert_header(("origin", origin))
            .insert_header(("access-control-request-method", "POST"))
            .insert_header(("access-control-request-headers", "content-type"))
    };
    let app = test::init_service(App::new().configure(services).wrap(stage.gateway.door())).await;
    let asked = test::call_service(&app, ask("https://app.example", "/socket.io/").to_request()).await;
    assert_eq!(asked.status(), StatusCode::NO_CONTENT);
    let header = |name: &str| asked.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    assert_eq!(header("access-control-allow-origin").as_deref(), Some("https://app.example"));
    assert_eq!(header("access-control-allow-credentials").as_deref(), Some("true"));
    assert_eq!(header("access-control-allow-methods").as_deref(), Some("GET, POST"));
    assert_eq!(header("access-control-allow-headers").as_deref(), Some("content-type"));

    let refused = TestRequest::get().uri("/user/me").insert_header(("host", "chat.example"));
    let refused = refused.insert_header(("origin", "https://app.example")).to_request();
    let refused = test::call_service(&app, refused).await;
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    assert!(refused.headers().contains_key("access-control-allow-origin"), "refusals can be read too");

    for (origin, path) in [("https://evil.example", "/socket.io/"), ("https://app.example", "/nowhere")] {
        let asked = test::call_service(&app, ask(origin, path).to_request()).await;
        assert_ne!(asked.status(), StatusCode::NO_CONTENT, "{origin} {path}");
    }
    let evil = test::call_service(&app, ask("https://evil.example", "/socket.io/").to_request()).await;
    assert!(!evil.headers().contains_key("access-control-allow-origin"));
}
