//! Extractors of the handlers' input: the caller, a JSON body, names in the path. Invalid input is refused here with
//! the common error response.

use std::{
    future::{Ready, ready},
    rc::Rc,
    time::Duration,
};

use actix_web::{
    FromRequest, HttpMessage, HttpRequest,
    dev::Payload,
    error::PayloadError,
    http::StatusCode,
    web::{Bytes, Data, PathConfig, PayloadConfig},
};
use futures_util::future::LocalBoxFuture;
use proto::{Identity, Object};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::refusal::other;
use crate::{Chat, Error, commands};

/// The session's user, who runs a command. Taken only from the identity that the gateway has verified.
pub struct Caller(pub Rc<commands::Caller>);

/// A JSON body, received within [`BODY_DEADLINE`].
pub struct Body<T>(pub T);

/// A JSON body that is read as each type of a tuple, each of which has some of its fields. Unlike a flattened type, they ignore unknown fields
/// with any value, also with numbers and nesting that cannot be represented.
pub struct BodyParts<T>(pub T);

/// The types of [`BodyParts`].
pub trait ParseParts: Sized {
    /// Reads all types from one body.
    fn parse_parts(body: &[u8]) -> Result<Self, Error>;
}

impl<A: DeserializeOwned, B: DeserializeOwned> ParseParts for (A, B) {
    fn parse_parts(body: &[u8]) -> Result<Self, Error> {
        Ok((parse(body)?, parse(body)?))
    }
}

impl<A: DeserializeOwned, B: DeserializeOwned, C: DeserializeOwned> ParseParts for (A, B, C) {
    fn parse_parts(body: &[u8]) -> Result<Self, Error> {
        Ok((parse(body)?, parse(body)?, parse(body)?))
    }
}

/// A JSON body whose fields are all optional. An absent body and `null` count as an empty object.
pub struct OptionalBody<T>(pub T);

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
        let body = read_json(request, payload);
        Box::pin(async move { Ok(Self(parse(&body.await?)?)) })
    }
}

impl<T: ParseParts + 'static> FromRequest for BodyParts<T> {
    type Error = actix_web::Error;
    type Future = LocalBoxFuture<'static, Result<Self, actix_web::Error>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let body = read_json(request, payload);
        Box::pin(async move { Ok(Self(T::parse_parts(&body.await?)?)) })
    }
}

impl<T: DeserializeOwned + 'static> FromRequest for OptionalBody<T> {
    type Error = actix_web::Error;
    type Future = LocalBoxFuture<'static, Result<Self, actix_web::Error>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (is_json, body) = (is_json(request), read(request, payload));
        Box::pin(async move {
            match &*body.await? {
                b"" | b"null" => Ok(Self(parse(b"{}")?)),
                body if is_json => Ok(Self(parse(body)?)),
                _ => Err(media_type()),
            }
        })
    }
}

fn is_json(request: &HttpRequest) -> bool {
    let kind = request.content_type().to_ascii_lowercase();
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}

fn media_type() -> actix_web::Error {
    other(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body must be application/json")
}

/// Reads a body that must be JSON by its type.
fn read_json(
    request: &HttpRequest,
    payload: &mut Payload,
) -> impl Future<Output = Result<Bytes, actix_web::Error>> + use<> {
    let (is_json, body) = (is_json(request), read(request, payload));
    async move { if is_json { body.await } else { Err(media_type()) } }
}

/// Reads the whole body, within [`BODY_DEADLINE`] and [`limit`].
fn read(
    request: &HttpRequest,
    payload: &mut Payload,
) -> impl Future<Output = Result<Bytes, actix_web::Error>> + use<> {
    let limit = request.app_data::<Limit>().map_or(BODY, |limit| limit.0);
    let body = Bytes::from_request(request, payload);
    async move {
        let late = || other(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time");
        let read = timeout(BODY_DEADLINE, body).await.map_err(|_| late())?;
        read.map_err(|error| match error.as_error::<PayloadError>() {
            Some(PayloadError::Overflow) => Error::TooLarge { what: "the body", limit }.into(),
            _ => Error::BadRequest("the body could not be read".to_owned()).into(),
        })
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    let text =
        std::str::from_utf8(body).map_err(|_| Error::BadRequest("the body is not UTF-8".to_owned()))?;
    let parsed = socketio::json::from_str::<Object<T>>(text);
    parsed.map(|Object(body)| body).map_err(|error| Error::BadRequest(error.to_string()))
}

/// The body limit for texts of at most `text_limit` bytes.
pub fn limit(text_limit: usize) -> Limit {
    Limit(BODY.max(ESCAPED * text_limit + ENVELOPE))
}

impl Limit {
    /// The limit as an actix-web configuration.
    pub fn config(self) -> PayloadConfig {
        PayloadConfig::new(self.0)
    }
}

/// Invalid names in a path are answered with 404, like names that do not exist.
pub fn path() -> PathConfig {
    PathConfig::default().error_handler(|_, _| Error::NotFound.into())
}
