//! Every way in which accounts say no, and how that looks to a client. Made by all files of this crate.

use actix_web::{
    HttpResponse, ResponseError,
    http::{StatusCode, header},
};
use proto::{NameError, Refusal};

use crate::password::Weakness;

/// Why a request was refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The body is not the JSON object it should be. 400.
    #[error(
        "The body must be a JSON object with username and password, each a string, each once; \
         session, if given, is \"cookie\" or \"token\""
    )]
    Malformed,
    /// A logout that shows a bearer token that cannot be one, and no other token. 400.
    #[error("The Bearer token is malformed: a token has 1 to 128 of A-Z a-z 0-9 _ -")]
    MalformedToken,
    /// The body ended before its end. 400.
    #[error("The body is incomplete")]
    Incomplete,
    /// The name may not be registered. 400.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The password may not be registered. 400.
    #[error(transparent)]
    Weak(#[from] Weakness),
    /// No such user, or not this password: never which. 401.
    #[error("Invalid credentials")]
    InvalidCredentials,
    /// Nobody is logged in behind this request. 401.
    #[error("Authentication required")]
    Unauthorized,
    /// No such method here; the allowed ones. 405.
    #[error("Method Not Allowed")]
    Method(&'static str),
    /// The body did not arrive in time. 408.
    #[error("The body did not arrive in time")]
    BodyTimeout,
    /// The name, in some case of its letters, is taken. 409.
    #[error("Username already exists")]
    Exists,
    /// The body is over the limit. 413.
    #[error("The body is over {0} bytes")]
    TooLarge(usize),
    /// The body is not declared as JSON. 415.
    #[error("The body must be application/json")]
    MediaType,
    /// Too many attempts under this name wait already; there is a place after this many seconds. 429.
    #[error("Too many attempts, try again later")]
    TooMany(u64),
    /// Too many passwords are being checked. 503, worth trying again in a second.
    #[error("Too many logins at once, try again in a moment")]
    Overloaded,
    /// A store does not answer. 503.
    #[error("The service is unavailable")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The operating system gives no random bytes, for a salt or a token. 503.
    #[error("The service is unavailable")]
    Entropy,
    /// What the store holds about this user cannot have been written here. 500.
    #[error("Stored data is damaged; its operator runs `godzilla check`")]
    Damaged(&'static str),
    /// A fault of ours. 500.
    #[error("Internal Server Error")]
    Internal(&'static str),
}

impl Error {
    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Malformed | Self::MalformedToken | Self::Incomplete | Self::Name(_) | Self::Weak(_) => {
                StatusCode::BAD_REQUEST
            }
            Self::InvalidCredentials | Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::Exists => StatusCode::CONFLICT,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Overloaded | Self::Unavailable(_) | Self::Entropy => StatusCode::SERVICE_UNAVAILABLE,
            Self::Damaged(_) | Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// What the operator should know; the client is told less.
    pub(crate) fn log(&self) {
        match self {
            Self::Unavailable(error) => tracing::warn!(%error, "a store does not answer"),
            Self::Entropy => {
                metrics::counter!("godzilla_accounts_entropy_failures_total").increment(1);
                tracing::error!("the operating system gives no random bytes for a salt or a token");
            }
            Self::Damaged(what) => {
                tracing::error!(
                    what,
                    "a stored user is damaged; `godzilla check` finds all damage of an embedded store"
                );
            }
            Self::Internal(what) => tracing::error!(what, "a request met a fault"),
            _ => {}
        }
    }
}

impl ResponseError for Error {
    fn status_code(&self) -> StatusCode {
        self.status()
    }

    fn error_response(&self) -> HttpResponse {
        self.log();
        let mut response = HttpResponse::build(self.status());
        response.insert_header((header::CACHE_CONTROL, "no-store"));
        match self {
            Self::Overloaded | Self::Unavailable(_) | Self::Entropy => {
                response.insert_header((header::RETRY_AFTER, "1"));
            }
            Self::TooMany(after) => {
                response.insert_header((header::RETRY_AFTER, *after));
            }
            Self::Method(allowed) => {
                response.insert_header((header::ALLOW, *allowed));
            }
            // The rest of the body is not waited for.
            Self::TooLarge(_) | Self::BodyTimeout | Self::Incomplete => {
                response.force_close();
            }
            _ => {}
        }
        response.json(Refusal::new(self.status().as_u16(), self.to_string()))
    }
}

impl From<embedded::Error> for Error {
    fn from(error: embedded::Error) -> Self {
        Self::Unavailable(error.into())
    }
}

impl From<sessions::Error> for Error {
    fn from(error: sessions::Error) -> Self {
        match error {
            sessions::Error::Entropy(_) => Self::Entropy,
            error => Self::Unavailable(error.into()),
        }
    }
}
