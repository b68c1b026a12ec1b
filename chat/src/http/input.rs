//! What handlers take: the caller, a JSON body, names in the path. Whatever is wrong with them is refused here, in the one
//! shape.

use std::{
    future::{Ready, ready},
    time::Duration,
};

use actix_web::{
    FromRequest, HttpMessage, HttpRequest,
    dev::Payload,
    error::JsonPayloadError,
    http::StatusCode,
    web::{Json, JsonConfig, PathConfig, QueryConfig},
};
use futures_util::future::LocalBoxFuture;
use proto::{Identity, Object, Username};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::refusal::other;
use crate::Error;

/// The session's user, from the identity that the gateway found and from nothing else.
pub struct Caller(pub Username);

/// A JSON body that came in time.
pub struct Body<T>(pub T);

/// The largest body; longer where the text limit needs it.
const BODY: usize = 16 * 1024;

/// JSON may need this many bytes for one of text (`\\u0001`).
const ESCAPED: usize = 6;

/// What a body has besides its text.
const ENVELOPE: usize = 1024;

/// How long a body may take to arrive.
const BODY_DEADLINE: Duration = Duration::from_secs(10);

impl FromRequest for Caller {
    type Error = Error;
    type Future = Ready<Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let caller = request.extensions().get::<Identity>().map(|identity| Self(identity.username.clone()));
        ready(caller.ok_or(Error::Unauthorized))
    }
}

impl<T: DeserializeOwned + 'static> FromRequest for Body<T> {
    type Error = actix_web::Error;
    type Future = LocalBoxFuture<'static, Result<Self, actix_web::Error>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let body = Json::<Object<T>>::from_request(request, payload);
        Box::pin(async move {
            let late = |_| Err(other(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time"));
            timeout(BODY_DEADLINE, body).await.unwrap_or_else(late).map(|Json(Object(body))| Self(body))
        })
    }
}

/// Bounds bodies for texts of `text_limit` bytes.
pub fn json(text_limit: usize) -> JsonConfig {
    let limit = BODY.max(ESCAPED * text_limit + ENVELOPE);
    JsonConfig::default().limit(limit).error_handler(move |error, _| match error {
        JsonPayloadError::OverflowKnownLength { .. } | JsonPayloadError::Overflow { .. } => {
            Error::TooLarge { what: "the body", limit }.into()
        }
        JsonPayloadError::ContentType => {
            other(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body must be application/json")
        }
        JsonPayloadError::Deserialize(error) => Error::BadRequest(error.to_string()).into(),
        _ => Error::BadRequest("the body could not be read".to_owned()).into(),
    })
}

/// A name that cannot be is the name of nothing.
pub fn path() -> PathConfig {
    PathConfig::default().error_handler(|_, _| Error::NotFound.into())
}

/// Numbers that are none.
pub fn query() -> QueryConfig {
    QueryConfig::default().error_handler(|error, _| Error::BadRequest(error.to_string()).into())
}
