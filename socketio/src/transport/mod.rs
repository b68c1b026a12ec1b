//! Transports: how a session's packets travel over HTTP. [`serve`] takes every request to the server's path, checks it as
//! the reference does, and opens a session. [`ws`] is the WebSocket; [`guard`], [`frame`] and [`wire`] are what it needs.

pub(crate) mod frame;
mod guard;
pub(crate) mod wire;
mod ws;

use std::rc::Rc;

use actix_web::{
    HttpRequest, HttpResponse, HttpResponseBuilder,
    http::{Method, StatusCode, header},
    web,
};
use serde::Serialize;

use crate::{app::App, engine::handshake::Query, server::Worker};

#[derive(Serialize)]
struct ErrorBody<'a> {
    code: u8,
    message: &'a str,
}

/// Answers one request to the server's path.
pub(crate) async fn serve<A: App>(
    worker: Rc<Worker<A>>,
    request: HttpRequest,
    payload: web::Payload,
) -> HttpResponse {
    let is_upgrade = is_upgrade(&request);
    let pairs = web::Query::<Vec<(String, String)>>::from_query(request.query_string());
    let query = Query::from_pairs(pairs.map(web::Query::into_inner).unwrap_or_default());
    if let Err(error) = query.check(request.method() == Method::GET, is_upgrade) {
        return refuse(StatusCode::BAD_REQUEST, error.code(), &error.to_string(), is_upgrade);
    }
    match worker.app.admit(&request) {
        Ok(admission) => ws::open(worker, &request, payload, admission)
            .unwrap_or_else(|error| refuse(StatusCode::BAD_REQUEST, error.code(), &error.to_string(), true)),
        Err(refusal) => refuse(StatusCode::FORBIDDEN, 4, &refusal.message, is_upgrade),
    }
}

fn is_upgrade(request: &HttpRequest) -> bool {
    let upgrade = request.headers().get(header::UPGRADE).and_then(|value| value.to_str().ok());
    upgrade.is_some_and(|value| value.eq_ignore_ascii_case("websocket"))
}

/// A handshake error: JSON, or to a WebSocket the bare message, always with status 400 and a closed connection.
fn refuse(status: StatusCode, code: u8, message: &str, is_upgrade: bool) -> HttpResponse {
    if is_upgrade {
        let mut response: HttpResponseBuilder = HttpResponse::BadRequest();
        return response.force_close().content_type("text/html").body(message.to_owned());
    }
    HttpResponse::build(status).json(ErrorBody { code, message })
}
