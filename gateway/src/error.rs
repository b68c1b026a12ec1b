//! Every reason for which the gateway refuses, with its status, its words and its metric label. Made by the checks of
//! this crate, turned into the one JSON shape here.

use actix_web::{
    HttpResponse, ResponseError,
    http::{StatusCode, header},
};
use proto::Refusal;

/// Why a request did not get past the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// 400: the request target is not in canonical form.
    #[error("{0}")]
    Path(&'static str),
    /// 400: an upgrade that is not a WebSocket handshake where one is served.
    #[error("{0}")]
    Upgrade(&'static str),
    /// 400: a body on a request that takes none.
    #[error("this request takes no body")]
    UnexpectedBody,
    /// 400: a body whose end or form cannot be made out.
    #[error("the request body is malformed")]
    BrokenBody,
    /// 401: no open session. One text for all, so that it tells nothing.
    #[error("Unauthorized")]
    Unauthorized,
    /// 401: several session tokens that differ.
    #[error(
        "the request carries several session tokens that differ: send one of them, or log out, which ends them all"
    )]
    Ambiguous,
    /// 403: a page of another origin.
    #[error(
        "this origin is not allowed; if it should be, its server needs --allow-origin, or, behind a proxy, --trusted-proxy and the \
         headers Host and X-Forwarded-Proto"
    )]
    Origin,
    /// 404: no such route.
    #[error("Not Found")]
    NotFound,
    /// 405: a route, but not with this method; the methods it has.
    #[error("Method Not Allowed")]
    Method(&'static str),
    /// 408: the body did not arrive in time.
    #[error("the request body did not arrive in time")]
    BodyTimeout,
    /// 411: a POST of HTTP/1.0 whose body ends with the connection.
    #[error("a body needs a Content-Length: an HTTP/1.0 client or proxy must send one, or speak HTTP/1.1")]
    NoLength,
    /// 413: over the gateway's body limit.
    #[error("the request body is too large")]
    TooLarge,
    /// 414: over the limit of a request target.
    #[error("the request target is too long")]
    TargetTooLong,
    /// 415: a body that is not JSON.
    #[error("the body must be application/json")]
    MediaType,
    /// 415: a body that is compressed.
    #[error("a compressed body is not accepted: send it without Content-Encoding")]
    ContentEncoding,
    /// 429: too many logins; seconds to wait.
    #[error("Too Many Requests")]
    TooManyLogins(u64),
    /// 429: too many handshakes that name no user; seconds to wait.
    #[error("Too Many Requests")]
    TooManyUnnamed(u64),
    /// 431: over the limits of a request head.
    #[error("the request head is too large")]
    HeadTooLarge,
    /// 503: the session store does not answer, so nobody can be let in.
    #[error("Service Unavailable")]
    Sessions,
    /// 503: too much of other answers waits for clients to read it.
    #[error("Service Unavailable")]
    Crowded,
    /// 502: the service behind the gateway gave an answer that is none.
    #[error("Bad Gateway")]
    Garbled,
    /// 503: no service behind the gateway can be reached, or the gateway is about to end.
    #[error("Service Unavailable")]
    Away,
    /// 503: a chat node did not answer a request that changes something in time, so it may have been done.
    #[error(
        "Service Unavailable: the outcome is not known; a message may be sent again with the same clientId"
    )]
    Unknown,
    /// 504: the service behind the gateway did not answer in time.
    #[error("Gateway Timeout")]
    Late,
    /// 500: the connection has no address to count by (not a TCP socket).
    #[error("Internal Server Error")]
    NoAddress,
}

impl Error {
    /// The `reason` label of `godzilla_http_refused_total`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Path(_) => "path",
            Self::Upgrade(_) => "upgrade",
            Self::UnexpectedBody => "unexpected_body",
            Self::BrokenBody => "broken_body",
            Self::Unauthorized => "unauthorized",
            Self::Ambiguous => "ambiguous_credentials",
            Self::Origin => "origin",
            Self::NotFound => "not_found",
            Self::Method(_) => "method",
            Self::BodyTimeout => "body_timeout",
            Self::NoLength => "no_length",
            Self::TooLarge => "too_large",
            Self::TargetTooLong => "target_too_long",
            Self::MediaType => "media_type",
            Self::ContentEncoding => "content_encoding",
            Self::HeadTooLarge => "head_too_large",
            Self::TooManyLogins(_) => "too_many_logins",
            Self::TooManyUnnamed(_) => "too_many_unnamed",
            Self::Sessions => "sessions",
            Self::Crowded => "crowded",
            Self::Garbled => "garbled",
            Self::Away => "away",
            Self::Unknown => "unknown",
            Self::Late => "late",
            Self::NoAddress => "no_address",
        }
    }

    /// Whether the connection ends with the answer: what follows on it could be taken for something it is not.
    fn ends_connection(self) -> bool {
        matches!(
            self,
            Self::Path(_)
                | Self::Upgrade(_)
                | Self::UnexpectedBody
                | Self::BrokenBody
                | Self::BodyTimeout
                | Self::NoLength
                | Self::TooLarge
                | Self::TargetTooLong
                | Self::HeadTooLarge
                | Self::MediaType
                | Self::ContentEncoding
                | Self::Method("")
        )
    }
}

impl ResponseError for Error {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::Path(_) | Self::Upgrade(_) | Self::UnexpectedBody | Self::BrokenBody => {
                StatusCode::BAD_REQUEST
            }
            Self::Unauthorized | Self::Ambiguous => StatusCode::UNAUTHORIZED,
            Self::Origin => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::NoLength => StatusCode::LENGTH_REQUIRED,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::MediaType | Self::ContentEncoding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::TooManyLogins(_) | Self::TooManyUnnamed(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Garbled => StatusCode::BAD_GATEWAY,
            Self::Sessions | Self::Crowded | Self::Away | Self::Unknown => StatusCode::SERVICE_UNAVAILABLE,
            Self::Late => StatusCode::GATEWAY_TIMEOUT,
            Self::NoAddress => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn error_response(&self) -> HttpResponse {
        let mut answer = HttpResponse::build(self.status_code());
        match self {
            Self::Unauthorized | Self::Ambiguous => {
                _ = answer.insert_header((header::WWW_AUTHENTICATE, "Bearer"));
            }
            Self::Method(allow) => _ = answer.insert_header((header::ALLOW, *allow)),
            Self::TooManyLogins(seconds) | Self::TooManyUnnamed(seconds) => {
                _ = answer.insert_header((header::RETRY_AFTER, *seconds))
            }
            Self::Sessions | Self::Crowded | Self::Away | Self::Unknown => {
                _ = answer.insert_header((header::RETRY_AFTER, 1));
            }
            _ => {}
        }
        if self.ends_connection() {
            answer.force_close();
        }
        answer.json(Refusal::new(self.status_code().as_u16(), self.to_string()))
    }
}
