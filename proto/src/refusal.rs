//! The JSON body of every HTTP refusal of every service.

use serde::Serialize;

/// `{"status":"error","code":404,"message":"Not Found"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refusal {
    status: &'static str,
    code: u16,
    message: String,
}

impl Refusal {
    /// A refusal with the HTTP status `code` and a sentence for the caller.
    pub fn new(code: u16, message: impl Into<String>) -> Self {
        Self { status: "error", code, message: message.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_the_documented_shape() {
        let json = serde_json::to_string(&Refusal::new(404, "Not Found")).unwrap();
        assert_eq!(json, r#"{"status":"error","code":404,"message":"Not Found"}"#);
    }
}
