//! Refused acks, and the reasons of refusals.

use serde::Serialize;

/// Reason of a refusal: the `code` of a refused ack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The payload is invalid.
    BadRequest,
    /// The session of this socket has ended.
    Unauthorized,
    /// The user lacks the permission.
    Forbidden,
    /// The object does not exist, or the user may not see it.
    NotFound,
    /// The request conflicts with the current state.
    Conflict,
    /// A size limit is exceeded.
    TooLarge,
    /// A rate limit is exceeded. `retryAfter` is the time to wait.
    RateLimited,
    /// A required service or store does not respond. The client retries later.
    Unavailable,
}

impl Code {
    /// The corresponding HTTP status.
    pub fn status(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::Conflict => 409,
            Self::TooLarge => 413,
            Self::RateLimited => 429,
            Self::Unavailable => 503,
        }
    }
}

/// A refused ack: `{ok:false, code, message, retryAfter?}`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Refused {
    /// Always false.
    pub ok: bool,
    /// Reason, for programs.
    pub code: Code,
    /// Reason, for display.
    pub message: String,
    /// Seconds to wait before a retry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<f64>,
}

impl Refused {
    /// A refusal without `retryAfter`.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { ok: false, code, message: message.into(), retry_after: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_has_a_snake_case_code_and_omits_an_absent_retry_after() {
        let json = serde_json::to_string(&Refused::new(Code::TooLarge, "text is over 8192 bytes")).unwrap();
        assert_eq!(json, r#"{"ok":false,"code":"too_large","message":"text is over 8192 bytes"}"#);
        let wait = Refused { retry_after: Some(0.5), ..Refused::new(Code::RateLimited, "slow down") };
        assert!(serde_json::to_string(&wait).unwrap().ends_with(r#""retryAfter":0.5}"#));
    }
}
