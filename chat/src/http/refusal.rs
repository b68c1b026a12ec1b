//! The crate's [`Error`] as an HTTP response: the common JSON error body, with `Retry-After` where a retry can succeed.

use actix_web::{HttpResponse, ResponseError, http::StatusCode, http::header};
use proto::Refusal;

use crate::Error;

impl ResponseError for Error {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.code().status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        if self.is_of_store() {
            tracing::warn!(cause = self.cause(), error = %self, "request refused: the store failed");
        }
        let mut response = HttpResponse::build(self.status_code());
        if let Some(wait) = self.retry_after() {
            // Whole seconds, at least 1 (RFC 9110, section 10.2.3 allows no fractions).
            let seconds = wait.as_secs_f64().ceil().max(1.0);
            response.insert_header((header::RETRY_AFTER, format!("{seconds:.0}")));
        }
        response.json(Refusal::new(self.code().status(), self.public()))
    }
}

/// A refusal with an HTTP status that the codes of acks do not have.
pub fn other(status: StatusCode, message: &'static str) -> actix_web::Error {
    let response = HttpResponse::build(status).json(Refusal::new(status.as_u16(), message));
    actix_web::error::InternalError::from_response(message, response).into()
}
