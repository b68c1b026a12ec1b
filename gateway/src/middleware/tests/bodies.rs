//! Bodies: empty ones, as HTTP clients send them with requests that need no body, their types and their limit.

use super::*;

/// What a client sends: the Content-Type, whether it declares the length, and the body.
type Sent = (Option<&'static str>, bool, &'static str);

const EMPTY_BODIES: [Sent; 5] = [
    (None, true, ""),
    (None, false, ""),
    (Some("application/json; charset=utf-8"), false, ""),
    (Some("text/plain"), false, ""),
    (Some("application/octet-stream"), true, ""),
];

async fn status(fixture: &Fixture, method: &str, path: &str, (kind, has_length, body): Sent) -> u16 {
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let mut request = get(path).method(method).insert_header(fixture.cookie());
    if let Some(kind) = kind {
        request = request.insert_header(("content-type", kind));
    }
    let framing = if has_length {
        ("content-length", body.len().to_string())
    } else {
        ("transfer-encoding", "chunked".into())
    };
    send(&fixture.gateway, request.insert_header(framing).set_payload(body)).await.status
}

#[actix_web::test]
async fn an_empty_body_is_accepted() {
    let fixture = fixture(&[]).await;
    for sent in EMPTY_BODIES {
        assert_eq!(status(&fixture, "POST", "/user/login", sent).await, 200, "POST {sent:?}");
        assert_eq!(status(&fixture, "DELETE", "/rooms/a", sent).await, 200, "DELETE {sent:?}");
        assert_eq!(status(&fixture, "PATCH", "/rooms/a", sent).await, 200, "PATCH {sent:?}");
    }
    for kind in [None, Some("application/json"), Some("text/plain;charset=UTF-8")] {
        for (has_length, body) in [(true, "{}"), (false, "{}"), (true, "null"), (false, " { }\n")] {
            let sent = (kind, has_length, body);
            assert_eq!(status(&fixture, "DELETE", "/rooms/a", sent).await, 200, "{sent:?}");
        }
    }
    for (kind, has_length) in [("application/json; charset=utf-8", true), ("Application/JSON", false)] {
        let sent = (Some(kind), has_length, "{}");
        assert_eq!(status(&fixture, "POST", "/user/login", sent).await, 200, "{sent:?}");
    }
}

#[actix_web::test]
async fn a_body_must_be_json_and_empty_on_delete() {
    let fixture = fixture(&[]).await;
    for has_length in [true, false] {
        for kind in [
            None,
            Some(""),
            Some("text/plain"),
            Some("application/x-www-form-urlencoded"),
            Some("multipart/form-data"),
            Some("application/jsonx"),
            Some("text/plain;application/json"),
        ] {
            let sent = (kind, has_length, "{}");
            assert_eq!(status(&fixture, "POST", "/user/login", sent).await, 415, "{sent:?}");
        }
        for body in ["{\"a\":1}", "[]", "x", "0", "{", "{}{}"] {
            let sent = (Some("application/json"), has_length, body);
            assert_eq!(status(&fixture, "DELETE", "/rooms/a", sent).await, 400, "{sent:?}");
        }
    }
    let long: &'static str = Box::leak(format!("{{{}}}", " ".repeat(63)).into_boxed_str());
    for has_length in [true, false] {
        assert_eq!(status(&fixture, "DELETE", "/rooms/a", (None, has_length, long)).await, 400);
    }
    let twice = post("/user/login").append_header(("content-type", "application/json"));
    let twice = twice.append_header(("content-type", "text/plain")).insert_header(("content-length", "2"));
    assert_eq!(send(&fixture.gateway, twice.set_payload("{}")).await.status, 415);
}

#[actix_web::test]
async fn a_body_is_refused_beyond_the_limit() {
    let fixture = fixture(&["--body-limit=2048"]).await;
    let table = [
        ("transfer-encoding", "chunked", 2_048, 200),
        ("transfer-encoding", "chunked", 2_049, 413),
        ("content-length", "2048", 2_048, 200),
        ("content-length", "2049", 2_049, 413),
        ("content-length", "99999999999999999999999", 1, 413),
    ];
    for (name, value, size, want) in table {
        let request = get("/rooms/a").method(Method::PATCH).insert_header(fixture.cookie());
        let request = request.insert_header(("content-type", "application/json"));
        let request = request.set_payload("x".repeat(size)).insert_header((name, value));
        let received = send(&fixture.gateway, request).await;
        assert_eq!(received.status, want, "{name}: {value}");
    }
}
