//! Extractors of the handlers' input: the caller, a JSON body, names in the path, a query. Invalid input is refused here with the common
//! error response, which is that of the crate's [`Error`].

use std::{
    future::{Ready, ready},
    rc::Rc,
    time::Duration,
};

use actix_web::{
    FromRequest, HttpMessage, HttpRequest, HttpResponse, ResponseError,
    dev::Payload,
    error::PayloadError,
    http::{StatusCode, header},
    web::{Data, PathConfig, QueryConfig},
};
use futures_util::future::LocalBoxFuture;
use proto::{Identity, Object, Refusal};
use runtime::body::{self, ReadError};
use serde::de::DeserializeOwned;

use crate::{Chat, Error, commands};

/// The session's user, who runs a command. Taken only from the identity that the gateway has verified.
pub struct Caller(pub Rc<commands::Caller>);

/// A JSON body, received within [`BODY_DEADLINE`].
pub struct Body<T>(pub T);

/// The maximum size of a body, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Limit(usize);

/// The default body limit, in bytes. A larger text limit raises it.
const BODY: usize = 16 * 1024;

/// The maximum number of bytes that JSON needs for one byte of text (`\\u0001`).
const ESCAPED: usize = 6;

/// The space for a body's other fields besides its text, in bytes.
const ENVELOPE: usize = 1024;

/// The maximum time to receive a body.
const BODY_DEADLINE: Duration = Duration::from_secs(10);

impl FromRequest for Caller {
    type Error = Error;
    type Future = Ready<Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let user = request.extensions().get::<Identity>().map(|identity| identity.username.clone());
        let chat = request.app_data::<Data<Chat>>().map(|chat| chat.get_ref().clone());
        let caller = user.zip(chat).map(|(user, chat)| Self(commands::Caller::of_request(chat, user).into()));
        ready(caller.ok_or(Error::Unauthorized))
    }
}

impl<T: DeserializeOwned + 'static> FromRequest for Body<T> {
    type Error = actix_web::Error;
    type Future = LocalBoxFuture<'static, Result<Self, actix_web::Error>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let is_json = request.content_type().eq_ignore_ascii_case("application/json");
        let limit = request.app_data::<Limit>().map_or(BODY, |limit| limit.0);
        let body = body::read(payload.take(), limit, BODY_DEADLINE);
        Box::pin(async move {
            if !is_json {
                return Err(other(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body must be application/json"));
            }
            let body = body.await.map_err(|error| match error {
                ReadError::Timeout => other(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time"),
                // Also the limit of the gateway.
                ReadError::TooLarge | ReadError::Broken(PayloadError::Overflow) => {
                    Error::TooLarge { what: "the body", limit }.into()
                }
                ReadError::Broken(_) => Error::BadRequest("the body could not be read".to_owned()).into(),
            })?;
            let text = std::str::from_utf8(&body)
                .map_err(|_| Error::BadRequest("the body is not UTF-8".to_owned()))?;
            let parsed = socketio::json::from_str::<Object<T>>(text);
            Ok(Self(parsed.map_err(|error| Error::BadRequest(error.to_string()))?.0))
        })
    }
}

/// The body limit for texts of at most `text_limit` bytes.
pub fn limit(text_limit: usize) -> Limit {
    Limit(BODY.max(ESCAPED * text_limit + ENVELOPE))
}

/// Invalid names in a path are answered with 404, like names that do not exist.
pub fn path() -> PathConfig {
    PathConfig::default().error_handler(|_, _| Error::NotFound.into())
}

/// Invalid queries are answered with 400.
pub fn query() -> QueryConfig {
    QueryConfig::default().error_handler(|error, _| Error::BadRequest(error.to_string()).into())
}

/// The common JSON error body, with `Retry-After` where a retry can succeed.
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
fn other(status: StatusCode, message: &'static str) -> actix_web::Error {
    let response = HttpResponse::build(status).json(Refusal::new(status.as_u16(), message));
    actix_web::error::InternalError::from_response(message, response).into()
}
