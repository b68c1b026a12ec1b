//! The crate's [`Error`] as an HTTP answer: the one JSON shape, with `Retry-After` where waiting helps.

use actix_web::{HttpResponse, ResponseError, http::StatusCode, http::header};
use proto::Refusal;

use crate::Error;

impl ResponseError for Error {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.code().status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        if matches!(self, Error::Store(_)) {
            tracing::warn!(error = %self, "a request was refused by the store");
        }
        let mut response = HttpResponse::build(self.status_code());
        if let Some(wait) = self.retry_after() {
            // Whole seconds, and never "now".
            let seconds = wait.as_secs_f64().ceil().max(1.0);
            response.insert_header((header::RETRY_AFTER, format!("{seconds:.0}")));
        }
        response.json(Refusal::new(self.code().status(), self.public()))
    }
}

/// A refusal that HTTP knows and acks do not.
pub fn other(status: StatusCode, message: &'static str) -> actix_web::Error {
    let response = HttpResponse::build(status).json(Refusal::new(status.as_u16(), message));
    actix_web::error::InternalError::from_response(message, response).into()
}
