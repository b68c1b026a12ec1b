//! Parsing of the body of register and login.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, IgnoredAny, MapAccess, Visitor},
};

use crate::Error;

/// Credentials as received. Without `Debug`, so that a password cannot be logged.
pub struct Credentials {
    /// Not validated.
    pub username: String,
    /// Not validated.
    pub password: String,
    /// How the response returns the session token.
    pub delivery: TokenDelivery,
}

/// How the response to a login returns the session token. A registration opens a session for [`TokenDelivery::Token`] only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TokenDelivery {
    /// In an HttpOnly cookie.
    #[default]
    Cookie,
    /// In the response body, for pages of other sites, for which browsers send no cookie, and for programs.
    Token,
}

/// Parses the JSON object `{"username": string, "password": string, "session"?: "cookie" | "token" | null}`. Duplicate fields are
/// refused, other fields are ignored. The error contains no detail, because a parser's message can quote the password.
pub fn parse(body: &[u8]) -> Result<Credentials, Error> {
    serde_json::from_slice(body).map_err(|_| Error::Malformed)
}

/// Not derived, because a derived implementation also accepts an array.
impl<'de> Deserialize<'de> for Credentials {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields)
    }
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Credentials;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with username and password")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Credentials, A::Error> {
        let (mut username, mut password, mut delivery) = (None, None, None);
        while let Some(key) = map.next_key::<String>()? {
            let field = match key.as_str() {
                "username" => &mut username,
                "password" => &mut password,
                "session" => {
                    if delivery.replace(delivery_of(map.next_value()?)?).is_some() {
                        return Err(A::Error::custom("duplicate field"));
                    }
                    continue;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            if field.replace(map.next_value::<String>()?).is_some() {
                return Err(A::Error::custom("duplicate field"));
            }
        }
        match (username, password) {
            (Some(username), Some(password)) => {
                Ok(Credentials { username, password, delivery: delivery.unwrap_or_default() })
            }
            _ => Err(A::Error::custom("missing field")),
        }
    }
}

fn delivery_of<E: serde::de::Error>(sent: Option<String>) -> Result<TokenDelivery, E> {
    match sent.as_deref() {
        None | Some("cookie") => Ok(TokenDelivery::Cookie),
        Some("token") => Ok(TokenDelivery::Token),
        Some(_) => Err(E::custom("unknown session kind")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_fields_are_ignored() {
        let body = r#"{"a":{"$gt":""},"username":"al","b":[[1]],"password":"pw\u0000","a":2}"#;
        let read = parse(body.as_bytes()).ok().unwrap();
        assert_eq!((read.username.as_str(), read.password.as_str()), ("al", "pw\0"));
    }

    #[test]
    fn a_login_can_request_a_token() {
        let delivery = |field: &str| {
            let body = format!(r#"{{"username":"al","password":"pw"{field}}}"#);
            parse(body.as_bytes()).ok().map(|read| read.delivery)
        };
        for cookie in ["", r#","session":null"#, r#","session":"cookie""#] {
            assert_eq!(delivery(cookie), Some(TokenDelivery::Cookie), "{cookie}");
        }
        assert_eq!(delivery(r#","session":"token""#), Some(TokenDelivery::Token));
        for bad in [r#""Token""#, r#""""#, "true", "1", r#"["token"]"#, r#""token","session":"token""#] {
            assert_eq!(delivery(&format!(r#","session":{bad}"#)), None, "{bad}");
        }
    }

    #[test]
    fn a_body_without_exactly_two_strings_is_refused() {
        let nested = format!(r#"{{"username":{}1{},"password":"p"}}"#, "[".repeat(1000), "]".repeat(1000));
        let bad = [
            "",
            "null",
            "1",
            "\"alice\"",
            "{}",
            "[]",
            r#"["alice","password"]"#,
            r#"[{"username":"a","password":"p"}]"#,
            r#"{"username":"a"}"#,
            r#"{"password":"p"}"#,
            r#"{"Username":"a","password":"p"}"#,
            r#"{"username":{"$gt":""},"password":"p"}"#,
            r#"{"username":"a","password":{"$gt":""}}"#,
            r#"{"username":{"$regex":"."},"password":{"$ne":null}}"#,
            r#"{"username":["a"],"password":"p"}"#,
            r#"{"username":"a","password":["p"]}"#,
            r#"{"username":1,"password":"p"}"#,
            r#"{"username":"a","password":1}"#,
            r#"{"username":null,"password":"p"}"#,
            r#"{"username":"a","password":true}"#,
            r#"{"username":"a","username":"b","password":"p"}"#,
            r#"{"username":"a","user\u006eame":"b","password":"p"}"#,
            r#"{"username":"a","password":"p","password":"p"}"#,
            r#"{"username":"a","password":"\ud800"}"#,
            r#"{"username":"a","password":"p"} x"#,
            r#"{"username":"a","password":"p""#,
            "{'username':'a','password':'p'}",
            &nested,
        ];
        for body in bad {
            assert!(matches!(parse(body.as_bytes()), Err(Error::Malformed)), "{body}");
        }
        assert!(parse(b"{\"username\":\"a\",\"password\":\"\xff\xfe\"}").is_err(), "invalid UTF-8");
    }
}
