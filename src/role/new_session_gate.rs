//! Refuses new Engine.IO sessions on a chat node that drains. Existing sessions continue. A gateway whose request is refused
//! here tries another node.

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

/// Whether new sessions are refused.
#[derive(Debug, Clone)]
pub struct NewSessionGate {
    /// The path at which sessions are opened.
    path: Arc<str>,
    refused: Arc<AtomicBool>,
}

impl NewSessionGate {
    /// An open gate for sessions at this path.
    pub fn at(path: &str) -> Self {
        Self { path: path.into(), refused: Arc::default() }
    }

    /// Refuses all new sessions from now on.
    pub fn refuse(&self) {
        self.refused.store(true, Ordering::Release);
    }

    /// Refuses a request that would open an Engine.IO session with 421 (RFC 9110 §15.5.20): another node must serve it.
    pub async fn check<B: MessageBody>(
        self,
        request: ServiceRequest,
        next: Next<B>,
    ) -> Result<ServiceResponse<EitherBody<B>>, Error> {
        let opens = request.path() == &*self.path && !gateway::names_session(request.query_string());
        if opens && self.refused.load(Ordering::Acquire) {
            let refusal = Refusal::new(421, "this node takes no new sessions");
            let answer = HttpResponse::build(StatusCode::MISDIRECTED_REQUEST).json(refusal);
            return Ok(request.into_response(answer).map_into_right_body());
        }
        next.call(request).await.map(ServiceResponse::map_into_left_body)
    }
}

#[cfg(test)]
mod tests {
    use actix_web::{App, middleware::from_fn, test, test::TestRequest, web};

    use super::*;

    #[actix_web::test]
    async fn only_requests_that_open_a_session_are_refused() {
        let new_session_gate = NewSessionGate::at("/socket.io/");
        let middleware = new_session_gate.clone();
        let app = App::new()
            .default_service(web::to(HttpResponse::Ok))
            .wrap(from_fn(move |request, next| middleware.clone().check(request, next)));
        let app = test::init_service(app).await;
        let ask = async |uri: &str| {
            let answer = test::call_service(&app, TestRequest::with_uri(uri).to_request()).await;
            answer.status().as_u16()
        };
        let opening = [
            "/socket.io/?EIO=4&transport=polling",
            "/socket.io/",
            "/socket.io/?xsid=a",
            "/socket.io/?EIO=4&transport=polling&sid=",
        ];
        for uri in opening {
            assert_eq!(ask(uri).await, 200, "{uri}");
        }
        new_session_gate.refuse();
        for uri in opening {
            assert_eq!(ask(uri).await, 421, "{uri}");
        }
        for uri in ["/socket.io/?EIO=4&sid=a.one", "/rooms", "/socket.io/?sid=a.one&transport=websocket"] {
            assert_eq!(ask(uri).await, 200, "{uri}");
        }
    }
}
