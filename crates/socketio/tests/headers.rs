//! The headers that an application adds to the response that opens a session.

use actix_web::{
    App, HttpRequest,
    http::header::{HeaderName, HeaderValue, SET_COOKIE},
    test::{TestRequest, call_service, init_service},
};
use bytes::Bytes;
use socketio::{Config, EngineApp, EnginePeer, EngineServer, EngineSocket, Refusal};

struct CookieApp;

struct IgnoringPeer;

impl EngineApp for CookieApp {
    type Admission = ();
    type Peer = IgnoringPeer;

    fn admit(&self, request: &HttpRequest) -> Result<(), Refusal> {
        if request.query_string().contains("deny") { Err(Refusal::new("no")) } else { Ok(()) }
    }

    fn headers(&self, _: &HttpRequest) -> Vec<(HeaderName, HeaderValue)> {
        ["a=1", "b=2"].map(|cookie| (SET_COOKIE, HeaderValue::from_static(cookie))).into()
    }

    fn open(&self, _: EngineSocket, _: ()) -> IgnoringPeer {
        IgnoringPeer
    }
}

impl EnginePeer for IgnoringPeer {
    fn text(&mut self, _: &str) {}

    fn binary(&mut self, _: Bytes) {}
}

#[actix_rt::test]
async fn only_the_response_that_opens_a_session_has_them() {
    let server = EngineServer::new(CookieApp, Config { path: "/e/".to_owned(), ..Config::default() });
    let app = init_service(App::new().configure(|service| server.mount(service))).await;
    let mut cookies = Vec::new();
    for more in ["&deny=1", "", "&sid=unknown"] {
        let uri = format!("/e/?EIO=4&transport=polling{more}");
        let response = call_service(&app, TestRequest::with_uri(&uri).to_request()).await;
        cookies.push(response.headers().get_all(SET_COOKIE).count());
    }
    assert_eq!(cookies, [0, 2, 0]);
}
