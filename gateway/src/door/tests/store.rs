//! The door before a store that does not answer.

use async_trait::async_trait;
use sessions::{Closing, Session};
use tokio::{sync::broadcast, time::timeout};

use super::*;

/// A store that fails, or never answers: what no real one can be made to do on demand.
struct Broken {
    hangs: bool,
}

#[async_trait]
impl Sessions for Broken {
    async fn replace(&self, _: &Username, _: &[Token]) -> Result<Token, sessions::Error> {
        unreachable!("the gateway opens nothing")
    }
    async fn supersede(&self, _: &SessionId) -> Result<(), sessions::Error> {
        unreachable!("nothing is opened")
    }
    async fn look(&self, _: &SessionId) -> Result<Option<Session>, sessions::Error> {
        if self.hangs {
            std::future::pending::<()>().await;
        }
        Err(sessions::Error::Unavailable("broken".into()))
    }
    async fn close(&self, _: &Token) -> Result<bool, sessions::Error> {
        unreachable!("the gateway closes nothing")
    }
    fn closings(&self) -> broadcast::Receiver<Closing> {
        broadcast::channel(1).1
    }
}

#[actix_web::test]
async fn a_session_store_that_fails_or_hangs_lets_nobody_in() {
    for hangs in [false, true] {
        let gateway = gateway(&[], Arc::new(Broken { hangs }));
        for path in ["/user/me", "/socket.io/"] {
            let asked = ask(&gateway, get(path).insert_header(("cookie", "auth_token=abc")));
            let seen =
                timeout(Duration::from_secs(10), asked).await.expect("an answer, whatever the store does");
            assert_refused(&seen, 503, "Service Unavailable");
            assert!(seen.headers.contains_key("retry-after"));
        }
        assert_eq!(ask(&gateway, get("/healthz")).await.status, 200);
    }
}

#[actix_web::test]
async fn what_cannot_be_a_token_is_not_even_asked_for() {
    let gateway = gateway(&[], Arc::new(Broken { hangs: true }));
    let too_long = "a".repeat(129);
    for odd in ["a b", "a.b", "é", "", &too_long] {
        let request = get("/user/me").insert_header(("authorization", format!("Bearer {odd}")));
        assert_eq!(ask(&gateway, request).await.status, StatusCode::UNAUTHORIZED.as_u16(), "{odd}");
    }
}
