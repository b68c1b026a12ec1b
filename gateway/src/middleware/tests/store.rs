//! The middleware with an unavailable session store.

use async_trait::async_trait;
use futures_util::FutureExt;
use sessions::{ClosingSender, Closings};
use tokio::{sync::Notify, time::timeout};

use super::*;

/// A store that fails or hangs, which a real store does not do on demand.
#[derive(Default)]
struct BrokenStore {
    hangs: bool,
    /// Notified when a lookup has begun.
    begun: Arc<Notify>,
}

#[async_trait]
impl Sessions for BrokenStore {
    async fn open(&self, _: &Username, _: &[Token]) -> Result<Token, sessions::Error> {
        unreachable!("the gateway opens no sessions")
    }
    async fn find(&self, _: &SessionId) -> Result<Option<Username>, sessions::Error> {
        self.begun.notify_one();
        if self.hangs {
            std::future::pending::<()>().await;
        }
        Err(sessions::Error::Unavailable("broken".into()))
    }
    async fn close(&self, _: &SessionId) -> Result<(), sessions::Error> {
        unreachable!("the gateway closes no sessions")
    }
    fn closings(&self) -> Closings {
        ClosingSender::new(1).subscribe()
    }
}

/// The cookie of a session.
fn cookie() -> (&'static str, String) {
    ("cookie", format!("auth_token={}", "a".repeat(64)))
}

#[actix_web::test]
async fn a_session_store_that_fails_or_hangs_gets_503() {
    for hangs in [false, true] {
        let gateway = gateway(&[], Arc::new(BrokenStore { hangs, ..Default::default() }));
        for path in ["/user/me", "/socket.io/"] {
            let request = send(&gateway, get(path).insert_header(cookie()));
            let received = timeout(Duration::from_secs(10), request).await.expect("a response");
            assert_refused(&received, 503, "Service Unavailable");
            assert!(received.headers.contains_key("retry-after"));
        }
        assert_eq!(send(&gateway, get("/healthz")).await.status, 200);
    }
}

#[actix_web::test]
async fn malformed_tokens_are_refused_without_a_lookup() {
    let gateway = gateway(&[], Arc::new(BrokenStore { hangs: true, ..Default::default() }));
    let too_long = "a".repeat(129);
    for odd in ["a b", "a.b", "é", "", &too_long] {
        let request = get("/user/me").insert_header(("authorization", format!("Bearer {odd}")));
        assert_eq!(send(&gateway, request).await.status, StatusCode::UNAUTHORIZED.as_u16(), "{odd}");
    }
}

#[actix_web::test]
async fn a_drain_waits_for_a_request_whose_session_is_looked_up() {
    const LIMIT: Duration = Duration::from_secs(10);
    let store = BrokenStore { hangs: true, ..Default::default() };
    let begun = store.begun.clone();
    let gateway = gateway(&[], Arc::new(store));
    let in_flight = gateway.in_flight.clone();
    let request =
        actix_web::rt::spawn(async move { send(&gateway, get("/user/me").insert_header(cookie())).await });
    timeout(LIMIT, begun.notified()).await.expect("a lookup");
    assert!(in_flight.drain_requests(LIMIT * 2).now_or_never().is_none(), "the request is in flight");
    assert_eq!(timeout(LIMIT, request).await.expect("a response").unwrap().status, 503);
    assert!(in_flight.drain_requests(LIMIT * 2).now_or_never().is_some(), "the request has ended");
}
