//! Errors of accounts and their HTTP responses.

use actix_web::{
    HttpResponse, ResponseError,
    http::{StatusCode, header},
};
use proto::{NameError, Refusal};

use crate::password::Weakness;

/// Reason for refusing a request.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The body is not the expected JSON object. 400.
    #[error(
        "The body must be a JSON object with username and password, each a string, each once; \
         session, if given, is \"cookie\" or \"token\""
    )]
    Malformed,
    /// A logout with a malformed bearer token and without any other token. 400.
    #[error("The Bearer token is malformed: a token has 1 to 128 of A-Z a-z 0-9 _ -")]
    MalformedToken,
    /// The body was truncated. 400.
    #[error("The body is incomplete")]
    Incomplete,
    /// The name cannot be registered. 400.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The password cannot be registered. 400.
    #[error(transparent)]
    Weak(#[from] Weakness),
    /// Unknown user or wrong password. The response does not reveal which. 401.
    #[error("Invalid credentials")]
    InvalidCredentials,
    /// The request has no valid session. 401.
    #[error("Authentication required")]
    Unauthorized,
    /// The method is not allowed. Contains the allowed methods. 405.
    #[error("Method Not Allowed")]
    Method(&'static str),
    /// The body did not arrive in time. 408.
    #[error("The body did not arrive in time")]
    BodyTimeout,
    /// The name is taken; case is ignored. 409.
    #[error("Username already exists")]
    Exists,
    /// The body exceeds the limit in bytes. 413.
    #[error("The body is over {0} bytes")]
    TooLarge(usize),
    /// The content type is not JSON. 415.
    #[error("The body must be application/json")]
    MediaType,
    /// Too many attempts for this name are waiting. Contains the seconds after which a retry can succeed. 429.
    #[error("Too many attempts, try again later")]
    TooMany(u64),
    /// The queue of password checks is full. The client retries after a second. 503.
    #[error("Too many logins at once, try again in a moment")]
    Overloaded,
    /// A store does not respond, or fails. 503.
    #[error("The service is unavailable")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A store answered and refused the operation. 503.
    #[error("The store refuses the operation, try again")]
    Refused(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The operating system gives no random bytes, for a salt or a token. 503.
    #[error("The service is unavailable")]
    Entropy,
    /// The stored data of the user is damaged. 500.
    #[error("Stored data is damaged; its operator runs `godzilla check`")]
    Damaged(&'static str),
    /// An internal error. 500.
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
            Self::Overloaded | Self::Unavailable(_) | Self::Refused(_) | Self::Entropy => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Damaged(_) | Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Logs details that the response does not contain.
    pub(crate) fn log(&self) {
        match self {
            Self::Unavailable(error) => {
                tracing::warn!(store = store_of(&**error), %error, "a call to a store failed");
            }
            Self::Refused(error) => {
                tracing::warn!(store = store_of(&**error), %error, "a store refused an operation");
            }
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
            Self::Internal(what) => tracing::error!(what, "internal error"),
            _ => {}
        }
    }
}

/// The store that returned `error`, for the log.
fn store_of(error: &(dyn std::error::Error + Send + Sync + 'static)) -> &'static str {
    if error.is::<sessions::Error>() {
        "sessions"
    } else if error.is::<remote::Unanswered>() {
        "failed logins"
    } else {
        "users"
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
            Self::Overloaded | Self::Unavailable(_) | Self::Refused(_) | Self::Entropy => {
                response.insert_header((header::RETRY_AFTER, "1"));
            }
            Self::TooMany(after) => {
                response.insert_header((header::RETRY_AFTER, *after));
            }
            Self::Method(allowed) => {
                response.insert_header((header::ALLOW, *allowed));
            }
            // The rest of the body is not read.
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
