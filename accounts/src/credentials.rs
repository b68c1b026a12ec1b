//! What a client sends to register or log in. Pure; called by the handlers in `http`.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, IgnoredAny, MapAccess, Visitor},
};

use crate::Error;

/// A name and a password as they were sent. Not `Debug`: a password is not shown.
pub struct Credentials {
    /// Any string yet.
    pub username: String,
    /// Any string yet.
    pub password: String,
    /// How the answer to a login carries the session's token.
    pub carrier: Carrier,
}

/// How a client gets and keeps the token of its session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Carrier {
    /// In a cookie that no script reads.
    #[default]
    Cookie,
    /// In the body of the answer, for pages of other sites, to which browsers send no cookie, and for programs.
    Token,
}

/// Reads the JSON object `{"username": string, "password": string, "session"?: "cookie" | "token" | null}`. Each is there at
/// most once; other fields are ignored. Why not is not said in detail: a parser's message may quote the password.
pub fn parse(body: &[u8]) -> Result<Credentials, Error> {
    serde_json::from_slice(body).map_err(|_| Error::Malformed)
}

/// Written out because a derived one would also take an array.
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
        let (mut username, mut password, mut carrier) = (None, None, None);
        while let Some(key) = map.next_key::<String>()? {
            let field = match key.as_str() {
                "username" => &mut username,
                "password" => &mut password,
                "session" => {
                    if carrier.replace(carrier_of(map.next_value()?)?).is_some() {
                        return Err(A::Error::custom("a field is there twice"));
                    }
                    continue;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            if field.replace(map.next_value::<String>()?).is_some() {
                return Err(A::Error::custom("a field is there twice"));
            }
        }
        match (username, password) {
            (Some(username), Some(password)) => {
                Ok(Credentials { username, password, carrier: carrier.unwrap_or_default() })
            }
            _ => Err(A::Error::custom("a field is missing")),
        }
    }
}

fn carrier_of<E: serde::de::Error>(sent: Option<String>) -> Result<Carrier, E> {
    match sent.as_deref() {
        None | Some("cookie") => Ok(Carrier::Cookie),
        Some("token") => Ok(Carrier::Token),
        Some(_) => Err(E::custom("an unknown kind of session")),
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
    fn a_login_may_ask_for_its_token() {
        let carrier = |field: &str| {
            let body = format!(r#"{{"username":"al","password":"pw"{field}}}"#);
            parse(body.as_bytes()).ok().map(|read| read.carrier)
        };
        for cookie in ["", r#","session":null"#, r#","session":"cookie""#] {
            assert_eq!(carrier(cookie), Some(Carrier::Cookie), "{cookie}");
        }
        assert_eq!(carrier(r#","session":"token""#), Some(Carrier::Token));
        for bad in [r#""Token""#, r#""""#, "true", "1", r#"["token"]"#, r#""token","session":"token""#] {
            assert_eq!(carrier(&format!(r#","session":{bad}"#)), None, "{bad}");
        }
    }

    #[test]
    fn everything_but_two_strings_each_once_is_refused() {
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
