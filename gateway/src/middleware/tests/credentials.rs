//! Valid and invalid credentials on every kind of route.

use super::*;

/// The user that a service behind the middleware receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Alice,
    Anonymous,
    Refused(u16),
}

/// Requests `path` with these headers.
async fn outcome(fixture: &Fixture, path: &str, headers: &[(&str, String)]) -> Outcome {
    let request = headers.iter().fold(get(path), |request, header| request.append_header(header.clone()));
    let received = send(&fixture.gateway, request).await;
    match (received.status, received.body["user"].as_str()) {
        (200, Some("alice")) => Outcome::Alice,
        (200, None) => Outcome::Anonymous,
        (status, None) => {
            assert_eq!(received.body["status"], "error", "{}", received.body);
            Outcome::Refused(status)
        }
        (status, other) => panic!("{status} {other:?}"),
    }
}

fn cookie(text: String) -> (&'static str, String) {
    ("cookie", text)
}

fn bearer(token: &str) -> (&'static str, String) {
    ("authorization", format!("Bearer {token}"))
}

#[actix_web::test]
async fn cookies_of_other_applications_are_ignored() {
    let fixture = fixture(&[]).await;
    let good = &fixture.token;
    let (dead, sso) = ("f".repeat(64), "550e8400-e29b-41d4-a716-446655440000");
    let requests = [
        vec![cookie(format!("auth_token={sso}; auth_token={good}; auth_token=deleted"))],
        vec![cookie(format!("auth_token={dead}")), cookie(format!("auth_token={good}; auth_token={sso}"))],
        vec![cookie(format!("auth_token={good}; auth_token={good}; AUTH_TOKEN={dead}"))],
        vec![cookie(format!("a=\"x, y\"; $Version=1; nothing; =x; auth_token=\"{good}\""))],
        vec![cookie(format!("nick=Jos\u{e9}; auth_token={good}; \u{1f98e}=\u{1f98e}"))],
        vec![cookie("nick=Jos\u{e9}".into()), cookie(format!("auth_token={good}"))],
        vec![bearer(&dead), bearer(good)],
        vec![cookie("auth_token=a.b.c".into()), bearer(good)],
        vec![cookie(format!("auth_token={dead}; auth_token={good}")), bearer(good)],
        vec![cookie(format!("auth_token={good}")), bearer("eyJ.eyJ.signature")],
        vec![("authorization", "Basic dTpw".into()), ("authorization", format!("bEARER   {good} "))],
    ];
    for headers in &requests {
        for path in ["/user/me", "/socket.io/", "/socket.io/?EIO=4&transport=polling&sid=abc"] {
            assert_eq!(outcome(&fixture, path, headers).await, Outcome::Alice, "{path} {headers:?}");
        }
    }
}

#[actix_web::test]
async fn invalid_credentials_get_401_and_are_anonymous_on_the_socket_route() {
    let fixture = fixture(&[]).await;
    let bob: Username = "bob".parse().unwrap();
    let other = fixture.gateway.sessions.open(&bob, &[]).await.unwrap().reveal().to_owned();
    let closed = fixture.gateway.sessions.open(&bob, &[]).await.unwrap();
    fixture.gateway.sessions.close(&closed.id()).await.unwrap();
    let (good, dead) = (&fixture.token, "f".repeat(64));
    let requests = [
        vec![cookie(format!("auth_token={}", closed.reveal()))],
        vec![bearer(closed.reveal())],
        vec![cookie(format!("auth_token=session:{good}"))],
        vec![cookie(format!("auth_token={good}.x"))],
        vec![cookie(format!("auth_token={}", good.parse::<Token>().unwrap().id()))],
        vec![cookie(format!("auth_token={good}; auth_token={other}; auth_token=deleted"))],
        vec![cookie(format!("auth_token=deleted; auth_token={dead}"))],
        vec![cookie(format!("auth_token={good}")), cookie(format!("nick=Jos\u{e9}; auth_token={other}"))],
        vec![cookie(format!("auth_token={good}")), bearer(&other)],
        vec![cookie(format!("auth_token={good}")), bearer(&dead)],
        vec![bearer(good), bearer(&other)],
    ];
    for headers in &requests {
        assert_eq!(outcome(&fixture, "/user/me", headers).await, Outcome::Refused(401), "{headers:?}");
        for path in ["/socket.io/", "/socket.io/?EIO=4&transport=polling&sid=abc"] {
            assert_eq!(outcome(&fixture, path, headers).await, Outcome::Anonymous, "{path} {headers:?}");
        }
    }
}

#[actix_web::test]
async fn requests_without_credentials_get_401_and_may_continue_a_session() {
    let fixture = fixture(&[]).await;
    let requests = [
        vec![],
        vec![cookie("auth_token=".into())],
        vec![cookie("nick=Jos\u{e9}".into())],
        vec![("authorization", format!("Basic {}", fixture.token))],
    ];
    for headers in &requests {
        for path in ["/user/me", "/socket.io/", "/rooms", "/presence/online"] {
            assert_eq!(outcome(&fixture, path, headers).await, Outcome::Refused(401), "{path} {headers:?}");
        }
        let path = "/socket.io/?EIO=4&transport=polling&sid=abc";
        assert_eq!(outcome(&fixture, path, headers).await, Outcome::Anonymous, "{headers:?}");
    }
}

#[actix_web::test]
async fn several_open_sessions_get_401_with_an_explanation() {
    let fixture = fixture(&[]).await;
    let other = fixture.gateway.sessions.open(&"bob".parse().unwrap(), &[]).await.unwrap();
    let both = cookie(format!("auth_token={}; auth_token={}", fixture.token, other.reveal()));
    let received = send(&fixture.gateway, get("/user/me").insert_header(both)).await;
    let message = received.body["message"].as_str().unwrap();
    assert!(received.status == 401 && message.contains("several session tokens"), "{message}");
    assert_eq!(received.headers.get("www-authenticate").unwrap(), "Bearer");
}
