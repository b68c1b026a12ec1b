//! All refusals of the gateway with their status, message and metric label. The checks of this crate return them, this
//! module turns them into the JSON shape.

use actix_web::{
    HttpResponse, ResponseError,
    http::{StatusCode, header},
};
use proto::Refusal;

use crate::upgrade::VERSION;

/// Why the gateway refused a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// 400: the request target is not in canonical form.
    #[error("{0}")]
    Path(&'static str),
    /// 400: an upgrade that is not a WebSocket handshake, or on another route.
    #[error("{0}")]
    Upgrade(&'static str),
    /// 426: a handshake of another version of WebSocket.
    #[error("Sec-WebSocket-Version is not 13")]
    WebSocketVersion,
    /// 400: a body on a request that takes no body.
    #[error("this request takes no body")]
    UnexpectedBody,
    /// 400: a body with invalid framing.
    #[error("the request body is malformed")]
    BrokenBody,
    /// 401: no open session. All causes have one message, so that the response does not reveal the cause.
    #[error("Unauthorized")]
    Unauthorized,
    /// 401: the tokens of several open sessions, or too many tokens.
    #[error(
        "the request has several session tokens that differ: send one of them, or log out, which ends them all"
    )]
    Ambiguous,
    /// 403: a page of an origin that is not allowed.
    #[error(
        "this origin is not allowed; if it should be, its server needs --allow-origin, or, behind a proxy, --trusted-proxy and the \
         headers Host and X-Forwarded-Proto"
    )]
    Origin,
    /// 404: no such route.
    #[error("Not Found")]
    NotFound,
    /// 405: the route does not allow the method. Contains the allowed methods; empty for methods that are never allowed.
    #[error("Method Not Allowed")]
    Method(&'static str),
    /// 408: the body did not arrive in time.
    #[error("the request body did not arrive in time")]
    BodyTimeout,
    /// 413: the body exceeds the gateway's limit.
    #[error("the request body is too large")]
    TooLarge,
    /// 414: the request target exceeds its limit.
    #[error("the request target is too long")]
    TargetTooLong,
    /// 415: the body is not JSON.
    #[error("the body must be application/json")]
    MediaType,
    /// 415: the body is compressed.
    #[error("a compressed body is not accepted: send it without Content-Encoding")]
    ContentEncoding,
    /// 429: too many logins. Contains the seconds to wait.
    #[error("Too Many Requests")]
    TooManyLogins(u64),
    /// 429: too many anonymous handshakes. Contains the seconds to wait.
    #[error("Too Many Requests")]
    TooManyAnonymous(u64),
    /// 431: the request head exceeds its limits.
    #[error("the request head is too large")]
    HeadTooLarge,
    /// 503: the session store is not available, so no request can be authenticated.
    #[error("Service Unavailable")]
    SessionStore,
    /// 503: the budget of unread responses is exhausted.
    #[error("Service Unavailable")]
    ResponseBudget,
    /// 502: invalid response of an upstream service.
    #[error("Bad Gateway")]
    InvalidResponse,
    /// 503: no upstream service can be reached, or the gateway is draining.
    #[error("Service Unavailable")]
    Unavailable,
    /// 503: a chat node did not respond in time to a request that changes state. The change may have happened.
    #[error(
        "Service Unavailable: the outcome is unknown; a message may be sent again with the same clientId"
    )]
    UnknownOutcome,
    /// 504: an upstream service did not respond in time.
    #[error("Gateway Timeout")]
    UpstreamTimeout,
    /// 500: the connection has no address to count by (not a TCP socket).
    #[error("Internal Server Error")]
    NoAddress,
}

impl Error {
    /// The `reason` label of `godzilla_http_refused_total`.
    pub(crate) fn label(self) -> &'static str {
        self.row().1
    }

    fn row(self) -> (StatusCode, &'static str) {
        match self {
            Self::Path(_) => (StatusCode::BAD_REQUEST, "path"),
            Self::Upgrade(_) => (StatusCode::BAD_REQUEST, "upgrade"),
            Self::WebSocketVersion => (StatusCode::UPGRADE_REQUIRED, "upgrade"),
            Self::UnexpectedBody => (StatusCode::BAD_REQUEST, "unexpected_body"),
            Self::BrokenBody => (StatusCode::BAD_REQUEST, "broken_body"),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized"),
            Self::Ambiguous => (StatusCode::UNAUTHORIZED, "ambiguous_credentials"),
            Self::Origin => (StatusCode::FORBIDDEN, "origin"),
            Self::NotFound => (StatusCode::NOT_FOUND, "not_found"),
            Self::Method(_) => (StatusCode::METHOD_NOT_ALLOWED, "method"),
            Self::BodyTimeout => (StatusCode::REQUEST_TIMEOUT, "body_timeout"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
            Self::TargetTooLong => (StatusCode::URI_TOO_LONG, "target_too_long"),
            Self::MediaType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "media_type"),
            Self::ContentEncoding => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_encoding"),
            Self::HeadTooLarge => (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "head_too_large"),
            Self::TooManyLogins(_) => (StatusCode::TOO_MANY_REQUESTS, "too_many_logins"),
            Self::TooManyAnonymous(_) => (StatusCode::TOO_MANY_REQUESTS, "too_many_anonymous"),
            Self::SessionStore => (StatusCode::SERVICE_UNAVAILABLE, "session_store"),
            Self::ResponseBudget => (StatusCode::SERVICE_UNAVAILABLE, "response_budget"),
            Self::InvalidResponse => (StatusCode::BAD_GATEWAY, "invalid_response"),
            Self::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
            Self::UnknownOutcome => (StatusCode::SERVICE_UNAVAILABLE, "unknown_outcome"),
            Self::UpstreamTimeout => (StatusCode::GATEWAY_TIMEOUT, "upstream_timeout"),
            Self::NoAddress => (StatusCode::INTERNAL_SERVER_ERROR, "no_address"),
        }
    }

    /// Whether the connection closes after the response, because the following bytes could be parsed as a different
    /// request.
    fn ends_connection(self) -> bool {
        let status = self.status_code().as_u16();
        matches!(status, 400 | 408 | 411 | 413..=415 | 426 | 431) || self == Self::Method("")
    }
}

impl ResponseError for Error {
    fn status_code(&self) -> StatusCode {
        self.row().0
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status_code());
        match self {
            Self::Unauthorized | Self::Ambiguous => {
                _ = response.insert_header((header::WWW_AUTHENTICATE, "Bearer"));
            }
            Self::WebSocketVersion => {
                response.insert_header((header::SEC_WEBSOCKET_VERSION, VERSION));
                response.insert_header((header::UPGRADE, "websocket"));
            }
            Self::Method(allow) => _ = response.insert_header((header::ALLOW, *allow)),
            Self::TooManyLogins(seconds) | Self::TooManyAnonymous(seconds) => {
                _ = response.insert_header((header::RETRY_AFTER, *seconds))
            }
            _ if self.status_code() == StatusCode::SERVICE_UNAVAILABLE => {
                _ = response.insert_header((header::RETRY_AFTER, 1));
            }
            _ => {}
        }
        if self.ends_connection() {
            response.force_close();
        }
        response.json(Refusal::new(self.status_code().as_u16(), self.to_string()))
    }
}
