//! A chat node that ends opens no session any more, and goes on answering for those it has. The counterpart of the gateway's choice
//! of a node: it asks another one where it is refused here.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use actix_web::{
    Error, HttpResponse,
    body::{EitherBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::StatusCode,
    middleware::Next,
};
use proto::Refusal;

/// Whether newcomers are refused.
#[derive(Debug, Clone)]
pub struct Newcomers {
    /// Where sessions are opened.
    path: Arc<str>,
    refused: Arc<AtomicBool>,
}

impl Newcomers {
    /// Those that come to this path are let in.
    pub fn at(path: &str) -> Self {
        Self { path: path.into(), refused: Arc::default() }
    }

    /// From now on.
    pub fn refuse(&self) {
        self.refused.store(true, Ordering::Release);
    }

    /// Refuses a request that would open an Engine.IO session with 421 (RFC 9110 §15.5.20): it is meant for another node.
    pub async fn check<B: MessageBody>(
        self,
        request: ServiceRequest,
        next: Next<B>,
    ) -> Result<ServiceResponse<EitherBody<B>>, Error> {
        let named = |query: &str| query.split('&').any(|pair| pair.starts_with("sid="));
        let opens = request.path() == &*self.path && !named(request.query_string());
        if opens && self.refused.load(Ordering::Acquire) {
            let refusal = Refusal::new(421, "this node takes no new sessions");
            let answer = HttpResponse::build(StatusCode::MISDIRECTED_REQUEST).json(refusal);
            return Ok(request.into_response(answer).map_into_right_body());
        }
        next.call(request).await.map(ServiceResponse::map_into_left_body)
    }
}
