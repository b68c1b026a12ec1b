//! Which credentials let a request in, on every kind of route.

use super::*;

/// What the service behind the door learns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Alice,
    Nobody,
    Refused(u16),
}

/// Asks for `path` with these headers.
async fn outcome(stage: &Stage, path: &str, headers: &[(&str, String)]) -> Outcome {
    let request = headers.iter().fold(get(path), |request, header| request.append_header(header.clone()));
    let seen = ask(&stage.gateway, request).await;
    match (seen.status, seen.body["user"].as_str()) {
        (200, Some("alice")) => Outcome::Alice,
        (200, None) => Outcome::Nobody,
        (status, None) => {
            assert_eq!(seen.body["status"], "error", "{}", seen.body);
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
async fn cookies_of_other_applications_lock_nobody_out() {
    let stage = stage(&[]).await;
    let good = &stage.token;
    let dead = "f".repeat(64);
    let requests = [
        vec![cookie(format!("nick=Jos\u{e9}; auth_token={good}"))],
        vec![cookie(format!("auth_token={good}; \u{1f98e}=\u{1f98e}"))],
        vec![cookie("nick=Jos\u{e9}".into()), cookie(format!("auth_token={good}"))],
        vec![cookie(format!("a=\"x, y\"; $Version=1; nothing; =x; auth_token=\"{good}\""))],
        vec![cookie(format!("auth_token={good}; auth_token={good}"))],
        vec![cookie(format!("AUTH_TOKEN={dead}; auth_token={good}"))],
        vec![cookie("nick=Jos\u{e9}".into()), bearer(good)],
        vec![cookie("auth_token=a.b.c".into()), bearer(good)],
        vec![cookie(format!("auth_token={dead}")), bearer(good)],
        vec![cookie(format!("auth_token={dead}; auth_token={good}")), bearer(good)],
        vec![cookie(format!("auth_token={good}")), bearer("eyJ.eyJ.signature")],
        vec![cookie(format!("auth_token={good}")), ("authorization", "Basic dTpw".into())],
        vec![("authorization", "Basic dTpw".into()), ("authorization", format!("bEARER   {good} "))],
    ];
    for headers in &requests {
        for path in ["/user/me", "/socket.io/", "/socket.io/?EIO=4&transport=polling&sid=abc"] {
            assert_eq!(outcome(&stage, path, headers).await, Outcome::Alice, "{path} {headers:?}");
        }
    }
}

#[actix_web::test]
async fn credentials_that_name_no_open_session_let_nobody_in_and_on_a_socket_are_left_to_chat() {
    let stage = stage(&[]).await;
    let bob: Username = "bob".parse().unwrap();
    let other = stage.gateway.sessions.open(&bob).await.unwrap().reveal().to_owned();
    let closed = stage.gateway.sessions.open(&bob).await.unwrap();
    assert!(stage.gateway.sessions.close(&closed).await.unwrap());
    let (good, dead) = (&stage.token, "f".repeat(64));
    let requests = [
        vec![cookie(format!("auth_token={}", closed.reveal()))],
        vec![bearer(closed.reveal())],
        vec![cookie(format!("auth_token={dead}"))],
        vec![cookie("auth_token=*".into())],
        vec![cookie(format!("auth_token=session:{good}"))],
        vec![cookie(format!("auth_token={good}.x"))],
        vec![cookie(format!("auth_token={}", good.parse::<Token>().unwrap().id()))],
        vec![cookie(format!("auth_token={good}; auth_token={other}"))],
        vec![cookie(format!("auth_token={good}; auth_token={dead}"))],
        vec![cookie(format!("auth_token={good}")), cookie(format!("nick=Jos\u{e9}; auth_token={other}"))],
        vec![cookie(format!("auth_token={good}")), bearer(&other)],
        vec![cookie(format!("auth_token={good}")), bearer(&dead)],
        vec![bearer(good), bearer(&other)],
    ];
    for headers in &requests {
        assert_eq!(outcome(&stage, "/user/me", headers).await, Outcome::Refused(401), "{headers:?}");
        for path in ["/socket.io/", "/socket.io/?EIO=4&transport=polling&sid=abc"] {
            assert_eq!(outcome(&stage, path, headers).await, Outcome::Nobody, "{path} {headers:?}");
        }
    }
}

#[actix_web::test]
async fn without_credentials_nobody_is_let_in() {
    let stage = stage(&[]).await;
    let requests = [
        vec![],
        vec![cookie("auth_token=".into())],
        vec![cookie("nick=Jos\u{e9}".into())],
        vec![("authorization", format!("Basic {}", stage.token))],
    ];
    for headers in &requests {
        for path in ["/user/me", "/socket.io/", "/rooms", "/presence/online"] {
            assert_eq!(outcome(&stage, path, headers).await, Outcome::Refused(401), "{path} {headers:?}");
        }
    }
}

#[actix_web::test]
async fn tokens_that_differ_are_refused_with_words() {
    let stage = stage(&[]).await;
    let both = cookie(format!("auth_token={}; auth_token={}", stage.token, "f".repeat(64)));
    let seen = ask(&stage.gateway, get("/user/me").insert_header(both)).await;
    let message = seen.body["message"].as_str().unwrap();
    assert!(seen.status == 401 && message.contains("several session tokens"), "{message}");
    assert_eq!(seen.headers.get("www-authenticate").unwrap(), "Bearer");
}

#[actix_web::test]
async fn a_closed_session_is_no_longer_let_in() {
    let stage = stage(&[]).await;
    let token: Token = stage.token.parse().unwrap();
    assert!(stage.gateway.sessions.close(&token).await.unwrap());
    assert_refused(
        &ask(&stage.gateway, get("/user/me").insert_header(stage.cookie())).await,
        401,
        "Unauthorized",
    );
}
