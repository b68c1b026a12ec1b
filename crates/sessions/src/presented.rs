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
    /// A bearer token, and cookies with other tokens. The bearer token identifies the caller, unless one of the cookies belongs to
    /// another open session.
    Explicit {
        /// The bearer token.
        bearer: &'a Token,
        /// The tokens of the cookies that differ from it.
        others: Vec<&'a Token>,
    },
    /// Several tokens, and no rule by which one of them takes precedence.
    Ambiguous,
}

impl PresentedTokens {
    /// The maximum number of other tokens in cookies, beside a bearer token, that are looked up in the store.
    pub const MAX_OTHERS: usize = 4;

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

    /// The token that identifies the caller.
    pub fn claim(&self) -> Claim<'_> {
        match (self.bearers.as_slice(), self.cookies.as_slice()) {
            ([], []) if self.has_malformed => Claim::Malformed,
            ([], []) => Claim::Nothing,
            ([], [token]) | ([token], []) => Claim::One(token),
            ([bearer], cookies) => {
                let others: Vec<&Token> = cookies.iter().filter(|token| *token != bearer).collect();
                match others.len() {
                    0 => Claim::One(bearer),
                    1..=Self::MAX_OTHERS => Claim::Explicit { bearer, others },
                    _ => Claim::Ambiguous,
                }
            }
            _ => Claim::Ambiguous,
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

    #[test]
    fn different_tokens_are_ambiguous_unless_one_is_a_bearer_token() {
        let ambiguous: [(Values<'_>, Values<'_>); 5] = [
            (&[b"auth_token=abc; auth_token=def"], &[]),
            (&[b"auth_token=abc", b"nick=\xc3\xa9; auth_token=def"], &[]),
            (&[], &[b"Bearer abc", b"Bearer def"]),
            (&[b"auth_token=abc"], &[b"Bearer abc", b"Bearer def"]),
            (&[b"auth_token=a; auth_token=b; auth_token=c; auth_token=d; auth_token=e"], &[b"Bearer abc"]),
        ];
        for (cookies, bearers) in ambiguous {
            assert_eq!(read(cookies, bearers).claim(), Claim::Ambiguous, "{cookies:?} {bearers:?}");
        }
        let presented = read(&[b"auth_token=abc; auth_token=def"], &[b"Bearer abc"]);
        let (bearer, other): (Token, Token) = ("abc".parse().unwrap(), "def".parse().unwrap());
        assert_eq!(presented.claim(), Claim::Explicit { bearer: &bearer, others: vec![&other] });
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
