//! Empty bodies, as HTTP clients send them with requests that need no body.

use super::*;

/// What a client sends: the Content-Type, whether it declares the length, and the body.
type Sent = (Option<&'static str>, bool, &'static str);

const EMPTY_BODIES: [Sent; 7] = [
    (None, true, ""),
    (None, false, ""),
    (Some("application/json"), false, ""),
    (Some("application/json; charset=utf-8"), false, ""),
    (Some("text/plain"), false, ""),
    (Some("application/x-www-form-urlencoded"), false, ""),
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
    for has_length in [true, false] {
        let sent = (Some("application/json; charset=utf-8"), has_length, "{}");
        assert_eq!(status(&fixture, "POST", "/user/login", sent).await, 200, "{sent:?}");
    }
}

#[actix_web::test]
async fn a_body_must_be_json_and_empty_on_delete() {
    let fixture = fixture(&[]).await;
    for has_length in [true, false] {
        for kind in [None, Some("text/plain"), Some("application/x-www-form-urlencoded")] {
            assert_eq!(
                status(&fixture, "POST", "/user/login", (kind, has_length, "{}")).await,
                415,
                "{kind:?}"
            );
        }
        for body in ["{\"a\":1}", "[]", "x", "0", "{", "{}{}"] {
            let sent = (Some("application/json"), has_length, body);
            assert_eq!(status(&fixture, "DELETE", "/rooms/a", sent).await, 400, "{sent:?}");
        }
    }
    let long: &'static str = Box::leak(format!("{{{}}}", " ".repeat(63)).into_boxed_str());
    assert_eq!(status(&fixture, "DELETE", "/rooms/a", (None, false, long)).await, 400);
}
