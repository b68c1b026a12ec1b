//! The session tokens that a request contains, in its cookies and as bearer tokens. The only parser of credentials: the gateway
//! identifies the caller with it, and accounts selects the sessions that a logout ends with it. Pure.

use proto::identity::COOKIE;

use crate::Token;

/// The tokens of one request, each once, in the order in which they were sent.
///
/// Only pairs whose name is exactly [`COOKIE`] are parsed; other pairs may contain any bytes. A value that is not a valid token is
/// not counted as a token.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PresentedTokens {
    /// The tokens in `Cookie` headers.
    pub cookies: Vec<Token>,
    /// The tokens in `Authorization` headers of the scheme `Bearer`.
    pub bearers: Vec<Token>,
    /// Whether a value at the place of a token is not a valid token. An empty value counts as absent.
    pub has_malformed: bool,
    /// Whether such a value was sent as a bearer token.
    pub has_malformed_bearer: bool,
}

/// How the tokens of a request identify its caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim<'a> {
    /// The request contains no credentials.
    Nothing,
    /// The request contains a value that is not a valid token, and no token.
    Malformed,
    /// The request contains one token, once or several times.
    One(&'a Token),
    /// Several tokens. The only open session among `candidates` identifies the caller, unless one of `others` belongs to an open session,
    /// too. Another application on a parent domain can set a cookie with the same name, and only the store can decide that its value is
    /// not a session.
    Several {
        /// The bearer tokens; the cookies if there is no bearer token.
        candidates: Vec<&'a Token>,
        /// The cookies beside bearer tokens.
        others: Vec<&'a Token>,
    },
    /// More tokens than are looked up in the store.
    TooMany,
}

impl PresentedTokens {
    /// The maximum number of tokens of one request that are looked up in the store.
    pub const MAX_LOOKUPS: usize = 5;

    /// Parses the values of all `Cookie` headers and of all `Authorization` headers of a request.
    pub fn read<'a>(
        cookies: impl IntoIterator<Item = &'a [u8]>,
        authorizations: impl IntoIterator<Item = &'a [u8]>,
    ) -> Self {
        let mut presented = Self::default();
        for value in cookies {
            // A proxy may join several header lines by commas. A token contains no comma.
            for pair in value.split(|byte| matches!(*byte, b';' | b',')) {
                if let Some(value) = cookie_value(pair) {
                    presented.has_malformed |= !collect(&mut presented.cookies, unquoted(value));
                }
            }
        }
        let lines = authorizations.into_iter().flat_map(|value| value.split(|byte| *byte == b','));
        for value in lines.filter_map(bearer) {
            presented.has_malformed_bearer |= !collect(&mut presented.bearers, value);
        }
        presented.has_malformed |= presented.has_malformed_bearer;
        presented
    }

    /// Every token of the request, each once. A logout ends the sessions of all of them.
    pub fn all(&self) -> impl Iterator<Item = &Token> {
        let only_in_cookies = self.cookies.iter().filter(|token| !self.bearers.contains(token));
        self.bearers.iter().chain(only_in_cookies)
    }

    /// The token that identifies the caller. Among several tokens only those of the form of generated tokens count: the others are
    /// values of other applications.
    pub fn claim(&self) -> Claim<'_> {
        let mut tokens: Vec<&Token> = self.all().collect();
        if tokens.is_empty() && !self.has_malformed {
            return Claim::Nothing;
        }
        if tokens.len() > 1 {
            tokens.retain(|token| token.has_generated_form());
        }
        match tokens.as_slice() {
            [] => Claim::Malformed,
            [token] => Claim::One(token),
            several if several.len() > Self::MAX_LOOKUPS => Claim::TooMany,
            several => {
                let (bearers, cookies): (Vec<&Token>, Vec<&Token>) =
                    several.iter().partition(|token| self.bearers.contains(token));
                match bearers.is_empty() {
                    true => Claim::Several { candidates: cookies, others: bearers },
                    false => Claim::Several { candidates: bearers, others: cookies },
                }
            }
        }
    }
}

/// The value of a cookie pair with the name [`COOKIE`]; `None` for other names. Names are case-sensitive.
fn cookie_value(pair: &[u8]) -> Option<&[u8]> {
    let equals = pair.iter().position(|byte| *byte == b'=')?;
    let (name, value) = (&pair[..equals], &pair[equals + 1..]);
    (name.trim_ascii() == COOKIE.as_bytes()).then(|| value.trim_ascii())
}

/// The value without the double quotes around it (RFC 6265 §4.1.1).
fn unquoted(value: &[u8]) -> &[u8] {
    value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value)
}

/// The credentials of the scheme `Bearer`, which is case-insensitive. `None` for other schemes.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let value = value.trim_ascii();
    let space = value.iter().position(|byte| byte.is_ascii_whitespace())?;
    value[..space].eq_ignore_ascii_case(b"bearer").then(|| value[space..].trim_ascii())
}

/// Adds the token of `value`, unless it is already in the list. Ignores an empty value. Returns false when `value` is not a valid token.
fn collect(tokens: &mut Vec<Token>, value: &[u8]) -> bool {
    if value.is_empty() {
        return true;
    }
    let Some(token) = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()) else {
        return false;
    };
    if !tokens.contains(&token) {
        tokens.push(token);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of all headers of one name.
    type Values<'a> = &'a [&'a [u8]];

    fn read(cookies: Values<'_>, authorizations: Values<'_>) -> PresentedTokens {
        PresentedTokens::read(cookies.iter().copied(), authorizations.iter().copied())
    }

    fn texts<'a>(tokens: impl IntoIterator<Item = &'a Token>) -> Vec<&'a str> {
        tokens.into_iter().map(Token::reveal).collect()
    }

    #[test]
    fn the_session_cookie_is_found_beside_cookies_of_other_applications() {
        let long = [vec![b'x'; 9_000], b"=1; auth_token=abc".to_vec()].concat();
        let many = [b"a=1; ".repeat(2_000), b"auth_token=abc".to_vec()].concat();
        let headers: [&[&[u8]]; 20] = [
            &[b"auth_token=abc"],
            &[b"nick=Jos\xc3\xa9; auth_token=abc"],
            &[b"auth_token=abc; nick=Jos\xe9"],
            &[b"x=\xff\xfe\x80; auth_token=abc"],
            &[b"auth_token=abc", b"x=\xff"],
            &[b"x=\xff", b"auth_token=abc"],
            &[b"a=\"quoted, with comma\"; auth_token=abc; b=\"open"],
            &[b"$Version=1; auth_token=abc; $Path=/"],
            &[b"no-equals; auth_token=abc; ; ;;"],
            &[b"=empty name; auth_token=abc; ="],
            &[b"a=b c, d=e; auth_token=abc"],
            &[b"AUTH_TOKEN=other; auth_token=abc; Auth_Token=other; xauth_token=y; auth_token2=z"],
            &[b"other=auth_token=def; auth_token=abc"],
            &[b"auth_token=\"abc\""],
            &[b" \tauth_token = abc\t "],
            &[b"auth_token=abc; auth_token=abc"],
            &[b"auth_token=abc; auth_token=\"abc\"", b"auth_token=abc"],
            &[b"auth_token=; auth_token=abc"],
            &[&long],
            &[&many],
        ];
        for cookies in headers {
            let presented = read(cookies, &[]);
            let text: Vec<_> = cookies.iter().map(|value| String::from_utf8_lossy(value)).collect();
            assert_eq!(texts(&presented.cookies), ["abc"], "{text:?}");
            assert_eq!(presented.claim(), Claim::One(&"abc".parse().unwrap()), "{text:?}");
            assert!(!presented.has_malformed, "{text:?}");
        }
    }

    #[test]
    fn a_bearer_token_is_found_beside_any_cookies() {
        let cookies: [&[u8]; 6] = [
            b"",
            b"nick=Jos\xc3\xa9",
            b"auth_token=a.b",
            b"auth_token=\xff",
            b"auth_token=",
            b"auth_token=abc",
        ];
        let headers: [&[&[u8]]; 6] = [
            &[b"Bearer abc"],
            &[b"bearer abc"],
            &[b"BEARER \t abc  "],
            &[b"Basic dTpw", b"Bearer abc"],
            &[b"Bearer abc", b"Bearer abc"],
            &[b"Bearer eyJ.eyJ.sig", b"Bearer abc"],
        ];
        for (cookie, bearers) in cookies.iter().flat_map(|cookie| headers.map(|bearers| (cookie, bearers))) {
            let presented = read(&[cookie], bearers);
            assert_eq!(texts(&presented.bearers), ["abc"], "{bearers:?}");
            assert_eq!(presented.claim(), Claim::One(&"abc".parse().unwrap()), "{cookie:?} {bearers:?}");
        }
    }

    #[test]
    fn a_credential_of_another_application_is_ignored() {
        let foreign: [(&[u8], &[u8]); 7] = [
            (b"", b"Basic dTpw"),
            (b"", b"Bearer"),
            (b"", b"Bearer "),
            (b"", b"abc"),
            (b"auth_token", b""),
            (b"auth_token=", b""),
            (b"xauth_token=abc; AUTH_TOKEN=abc", b"Bearerabc"),
        ];
        for (cookie, authorization) in foreign {
            assert_eq!(
                read(&[cookie], &[authorization]).claim(),
                Claim::Nothing,
                "{cookie:?} {authorization:?}"
            );
        }
        for (cookie, authorization) in
            [(&b"auth_token=a b"[..], &b""[..]), (b"auth_token=\xff", b""), (b"", b"Bearer a.b")]
        {
            assert_eq!(read(&[cookie], &[authorization]).claim(), Claim::Malformed, "{cookie:?}");
        }
    }

    /// A token of the form of generated tokens: 64 times this digit.
    fn generated(digit: char) -> Token {
        String::from(digit).repeat(64).parse().unwrap()
    }

    /// The cookies and the bearer tokens of a request, each of which is a digit for a generated token, or another text.
    fn read_texts(cookies: &[&str], bearers: &[&str]) -> PresentedTokens {
        let value = |text: &&str| match text.len() {
            1 => text.repeat(64),
            _ => (*text).to_owned(),
        };
        let pairs: Vec<String> =
            cookies.iter().map(|text| format!("nick=\u{e9}; auth_token={}", value(text))).collect();
        let bearers: Vec<String> = bearers.iter().map(|text| format!("Bearer {}", value(text))).collect();
        PresentedTokens::read(pairs.iter().map(String::as_bytes), bearers.iter().map(String::as_bytes))
    }

    #[test]
    fn several_tokens_are_candidates_and_bearer_tokens_take_precedence() {
        // Cookies, bearer tokens, candidates and other tokens.
        type Digits = &'static [&'static str];
        let cases: [(Digits, Digits, &str, &str); 6] = [
            (&["a", "b"], &[], "ab", ""),
            (&["a", "b", "a", "c"], &[], "abc", ""),
            (&[], &["a", "b"], "ab", ""),
            (&["a"], &["b"], "b", "a"),
            (&["a", "b"], &["a"], "a", "b"),
            (&["a", "c", "d"], &["a", "b"], "ab", "cd"),
        ];
        for (cookies, bearers, candidates, others) in cases {
            let presented = read_texts(cookies, bearers);
            let Claim::Several { candidates: found, others: beside } = presented.claim() else {
                panic!("{cookies:?} {bearers:?}: {:?}", presented.claim())
            };
            let tokens = |digits: &str| digits.chars().map(generated).collect::<Vec<_>>();
            assert_eq!(found, tokens(candidates).iter().collect::<Vec<_>>(), "{cookies:?} {bearers:?}");
            assert_eq!(beside, tokens(others).iter().collect::<Vec<_>>(), "{cookies:?} {bearers:?}");
        }
        assert_eq!(read_texts(&["a", "b", "c", "d", "e", "f"], &[]).claim(), Claim::TooMany);
        assert_eq!(read_texts(&["a", "b", "c", "d", "e"], &["f"]).claim(), Claim::TooMany);
    }

    #[test]
    fn a_value_of_another_form_does_not_compete_with_a_token() {
        let upper = "A".repeat(64);
        let foreign = [
            "deleted",
            "null",
            "undefined",
            "0123",
            "550e8400-e29b-41d4-a716-446655440000",
            "eyJhbGciOiJIUzI1NiJ9",
            upper.as_str(),
        ];
        let token = generated('a');
        for value in foreign {
            for (cookies, bearers) in [
                (vec!["a", value], vec![]),
                (vec![value, "a"], vec![]),
                (vec![value], vec!["a"]),
                (vec!["a"], vec![value]),
                (vec![], vec![value, "a"]),
                (vec![value, "other", "a", "third", "fourth", "fifth", "sixth"], vec![]),
            ] {
                let presented = read_texts(&cookies, &bearers);
                assert_eq!(presented.claim(), Claim::One(&token), "{cookies:?} {bearers:?}");
                assert!(texts(presented.all()).contains(&value), "a logout ends every token");
            }
            assert_eq!(read_texts(&[value, "other"], &[]).claim(), Claim::Malformed, "{value}");
        }
    }

    #[test]
    fn all_returns_every_token_once() {
        let presented = read(
            &[
                b"auth_token=abc; nick=Jos\xc3\xa9; auth_token=def; auth_token=abc",
                b"auth_token=ghi; auth_token=a.b",
            ],
            &[b"Bearer def", b"Bearer jkl"],
        );
        assert_eq!(texts(presented.all()), ["def", "jkl", "abc", "ghi"]);
    }
}
