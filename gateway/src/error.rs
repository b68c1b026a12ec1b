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
    /// 411: a POST over HTTP/1.0 whose body ends with the connection.
    #[error("a body needs a Content-Length: an HTTP/1.0 client or proxy must send one, or use HTTP/1.1")]
    NoLength,
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
    pub fn label(self) -> &'static str {
        match self {
            Self::Path(_) => "path",
            Self::Upgrade(_) | Self::WebSocketVersion => "upgrade",
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
            Self::TooManyAnonymous(_) => "too_many_anonymous",
            Self::SessionStore => "session_store",
            Self::ResponseBudget => "response_budget",
            Self::InvalidResponse => "invalid_response",
            Self::Unavailable => "unavailable",
            Self::UnknownOutcome => "unknown_outcome",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::NoAddress => "no_address",
        }
    }

    /// Whether the connection closes after the response, because the following bytes could be parsed as a different
    /// request.
    fn ends_connection(self) -> bool {
        matches!(
            self,
            Self::Path(_)
                | Self::Upgrade(_)
                | Self::WebSocketVersion
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
            Self::WebSocketVersion => StatusCode::UPGRADE_REQUIRED,
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
            Self::TooManyLogins(_) | Self::TooManyAnonymous(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::InvalidResponse => StatusCode::BAD_GATEWAY,
            Self::SessionStore | Self::ResponseBudget | Self::Unavailable | Self::UnknownOutcome => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::UpstreamTimeout => StatusCode::GATEWAY_TIMEOUT,
            Self::NoAddress => StatusCode::INTERNAL_SERVER_ERROR,
        }
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
            Self::SessionStore | Self::ResponseBudget | Self::Unavailable | Self::UnknownOutcome => {
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
