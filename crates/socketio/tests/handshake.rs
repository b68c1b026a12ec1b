//! The handshake: error responses, disabled transports, CORS. Raw HTTP over real sockets.

#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use socketio::{Config, Cors};
use support::{
    Client,
    http::{BAD_REQUEST, Poller, Response, UNKNOWN, get, post},
    start, upgrade_request,
};

const POLLING: &str = "EIO=4&transport=polling";

#[actix_rt::test]
async fn handshake_errors_are_checked_in_the_order_of_the_reference_implementation() {
    let server = start(Config::default());
    let poller = Poller::join(&server).await;
    let sid = &poller.sid;
    let unknown_transport = r#"{"code":0,"message":"Transport unknown"}"#;
    let bad_method = r#"{"code":2,"message":"Bad handshake method"}"#;
    let old_version = r#"{"code":5,"message":"Unsupported protocol version"}"#;
    let table = [
        (get(""), unknown_transport),
        (get("EIO=4"), unknown_transport),
        (get("EIO=4&transport="), unknown_transport),
        (get("EIO=4&transport=webtransport"), unknown_transport),
        (get("EIO=4&transport=constructor"), unknown_transport),
        (get("EIO=4&transport=polling&transport=x"), unknown_transport),
        (get("EIO=4&transport[]=polling"), unknown_transport),
        (get(&format!("EIO=4&transport=x&sid={sid}")), unknown_transport),
        (get("EIO=4&transport=polling&sid=unknown"), UNKNOWN),
        (get("EIO=3&transport=polling&sid=__proto__"), UNKNOWN),
        (get("EIO=4&transport=polling&sid[]=x"), UNKNOWN),
        (get("EIO=4&transport=polling&sid=%00"), UNKNOWN),
        (get(&format!("EIO=4&transport=polling&sid={}", "a".repeat(50_000))), UNKNOWN),
        (post("EIO=4&transport=polling&sid=unknown", "3"), UNKNOWN),
        (get(&format!("EIO=4&transport=websocket&sid={sid}")), BAD_REQUEST),
        (get(&format!("EIO=3&transport=polling&sid={sid}")), BAD_REQUEST),
        (get(&format!("transport=polling&sid={sid}")), BAD_REQUEST),
        (post("EIO=4&transport=polling", "3"), bad_method),
        (post("EIO=3&transport=polling", "3"), bad_method),
        (get("EIO=4&transport=websocket"), BAD_REQUEST),
        (get("EIO=3&transport=websocket"), BAD_REQUEST),
        (get("transport=polling"), old_version),
        (get("EIO=3&transport=polling"), old_version),
        (get("EIO=5&transport=polling"), old_version),
        (get("EIO=04&transport=polling"), old_version),
        (get("EIO=4&EIO=3&transport=polling"), old_version),
    ];
    for (request, body) in table {
        let response = Client::dial(server.address, None).await.fetch(&request).await;
        assert_eq!(response.short(), (400, body), "{:.200}", request);
        assert_eq!(response.header("content-type"), Some("application/json"));
    }
    let response = Client::dial(server.address, None).await.fetch(&get(&format!("{POLLING}&deny=1"))).await;
    assert_eq!(response.short(), (403, r#"{"code":4,"message":"denied"}"#));
    poller.assert_alive().await;
}

#[actix_rt::test]
async fn jsonp_and_base64_parameters_are_ignored() {
    let server = start(Config::default());
    let response =
        Client::dial(server.address, None).await.fetch(&get(&format!("{POLLING}&j=0&b64=1&t=1.5"))).await;
    assert!(response.body.starts_with("0{"), "{response:?}");
    assert_eq!(response.header("content-type"), Some("text/plain; charset=UTF-8"));
    assert_eq!(response.header("x-content-type-options"), Some("nosniff"));
}

/// One request of each kind that a page can make, with the start of the response's head.
fn requests(poller: &Poller) -> Vec<(String, &'static str)> {
    vec![
        (get(POLLING), "HTTP/1.1 200"),
        (post(&poller.query(), "421[\"a\"]"), "HTTP/1.1 200"),
        (get(&poller.query()), "HTTP/1.1 200"),
        (get("EIO=3&transport=polling"), "HTTP/1.1 400"),
        (get("EIO=4&transport=polling&sid=unknown"), "HTTP/1.1 400"),
        (get(&format!("{POLLING}&deny=1")), "HTTP/1.1 403"),
        (post(&poller.query(), &"x".repeat(2000)), "HTTP/1.1 413"),
        (upgrade_request("EIO=4&transport=websocket"), "HTTP/1.1 101"),
        (upgrade_request("EIO=3&transport=websocket"), "HTTP/1.1 400"),
        (get(&poller.query()).replacen("GET", "PUT", 1), "HTTP/1.1 400"),
    ]
}

/// The response's head and its three cross-origin headers.
async fn fetch_from(poller: &Poller, request: &str, origin: &str) -> (String, [Option<String>; 3]) {
    let request = request.replacen("Host", &format!("Origin: {origin}\r\nHost"), 1);
    let head = poller.start(&request).await.request("").await;
    let response = Response { status: 0, head, body: String::new() };
    let names = ["access-control-allow-origin", "access-control-allow-credentials", "vary"];
    let values = names.map(|name| response.header(name).map(str::to_owned));
    (response.head, values)
}

#[actix_rt::test]
async fn every_response_has_the_configured_cross_origin_headers() {
    let (allowed, foreign) = ("https://allowed.example", "https://foreign.example");
    let some = |text: &str| Some(text.to_owned());
    let with_cookies = |origin| [some(origin), some("true"), some("Origin")];
    let table = [
        (Cors::Off, allowed, [None, None, None]),
        (Cors::Any, foreign, [some("*"), None, None]),
        (Cors::Reflect, foreign, with_cookies(foreign)),
        (Cors::Origins(vec![allowed.to_owned()]), allowed, with_cookies(allowed)),
        (Cors::Origins(vec![allowed.to_owned()]), foreign, [None, None, some("Origin")]),
        (Cors::Origins(vec![allowed.to_owned()]), "null", [None, None, some("Origin")]),
        (
            Cors::Origins(vec![allowed.to_owned()]),
            "https://allowed.example.foreign",
            [None, None, some("Origin")],
        ),
    ];
    for (cors, origin, want) in table {
        let server = start(Config { cors: cors.clone(), max_payload: 1000, ..Config::default() });
        let poller = Poller::join(&server).await;
        for (request, status) in requests(&poller) {
            let (head, headers) = fetch_from(&poller, &request, origin).await;
            assert!(head.starts_with(status), "{cors:?} {request:.80}\n{head}");
            assert_eq!(headers, want, "{cors:?} {request:.80}");
        }
    }
}

#[actix_rt::test]
async fn a_preflight_is_answered_before_any_other_check() {
    let allowed = "https://allowed.example";
    let preflight = |query: &str| {
        format!(
            "OPTIONS /socket.io/?{query} HTTP/1.1\r\nHost: x\r\nOrigin: {allowed}\r\n\
             Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: x-a,x-b\r\n\r\n"
        )
    };
    for cors in [Cors::Any, Cors::Reflect, Cors::Origins(vec![allowed.to_owned()])] {
        let server = start(Config { cors: cors.clone(), ..Config::default() });
        for query in ["EIO=4&transport=polling", "", "EIO=3&transport=nonsense&sid=unknown", "deny=1"] {
            let response = Client::dial(server.address, None).await.fetch(&preflight(query)).await;
            assert_eq!(response.short(), (204, ""), "{query}");
            let origin = if cors == Cors::Any { "*" } else { allowed };
            assert_eq!(response.header("access-control-allow-origin"), Some(origin));
            assert_eq!(response.header("access-control-allow-methods"), Some("GET,POST"));
            assert_eq!(response.header("access-control-allow-headers"), Some("x-a,x-b"));
        }
    }
    let server = start(Config::default());
    let response = Client::dial(server.address, None).await.fetch(&preflight(POLLING)).await;
    assert_eq!(response.short(), (400, r#"{"code":2,"message":"Bad handshake method"}"#));
    assert_eq!(response.header("access-control-allow-origin"), None);
}
