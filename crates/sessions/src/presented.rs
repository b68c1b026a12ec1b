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
    /// The only open session among `candidates` identifies the caller, unless one of `others` belongs to an open session, too. Another
    /// application on a parent domain can set a cookie with the same name, and only the store can decide that its value is not a session.
    Tokens {
        /// The bearer tokens; the cookies if there is no bearer token.
        candidates: &'a [Token],
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
        self.bearers.iter().chain(self.only_in_cookies())
    }

    /// The tokens that identify the caller.
    pub fn claim(&self) -> Claim<'_> {
        match self.all().count() {
            0 if self.has_malformed => Claim::Malformed,
            0 => Claim::Nothing,
            count if count > Self::MAX_LOOKUPS => Claim::TooMany,
            _ if self.bearers.is_empty() => Claim::Tokens { candidates: &self.cookies, others: Vec::new() },
            _ => Claim::Tokens { candidates: &self.bearers, others: self.only_in_cookies().collect() },
        }
    }

    fn only_in_cookies(&self) -> impl Iterator<Item = &Token> {
        self.cookies.iter().filter(|token| !self.bearers.contains(token))
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

    /// A token: 64 times this digit.
    fn token(digit: char) -> Token {
        String::from(digit).repeat(64).parse().unwrap()
    }

    fn tokens(digits: &str) -> Vec<Token> {
        digits.chars().map(token).collect()
    }

    /// The tokens in these headers, in whose values `<a>` stands for the token of `a`.
    fn read(cookies: &[&[u8]], authorizations: &[&[u8]]) -> PresentedTokens {
        let expand = |values: &[&[u8]]| -> Vec<Vec<u8>> {
            let expand = |value: &&[u8]| {
                let mut bytes = Vec::new();
                let mut rest = *value;
                while let Some((first, tail)) = rest.split_first() {
                    match tail {
                        [digit, b'>', tail @ ..] if *first == b'<' => {
                            bytes.extend([*digit; 64]);
                            rest = tail;
                        }
                        _ => {
                            bytes.push(*first);
                            rest = tail;
                        }
                    }
                }
                bytes
            };
            values.iter().map(expand).collect()
        };
        let (cookies, authorizations) = (expand(cookies), expand(authorizations));
        PresentedTokens::read(cookies.iter().map(Vec::as_slice), authorizations.iter().map(Vec::as_slice))
    }

    #[test]
    fn the_session_cookie_is_found_beside_cookies_of_other_applications() {
        let long = [vec![b'x'; 9_000], b"=1; auth_token=<a>".to_vec()].concat();
        let many = [b"a=1; ".repeat(2_000), b"auth_token=<a>".to_vec()].concat();
        let headers: [&[&[u8]]; 16] = [
            &[b"auth_token=<a>"],
            &[b"nick=Jos\xc3\xa9; auth_token=<a>; x=\xff\xfe\x80"],
            &[b"auth_token=<a>", b"x=\xff"],
            &[b"a=\"quoted, with comma\"; auth_token=<a>; b=\"open"],
            &[b"no-equals; auth_token=<a>; ; ;;"],
            &[b"=empty name; auth_token=<a>; ="],
            &[b"AUTH_TOKEN=<b>; auth_token=<a>; xauth_token=<c>; auth_token2=<d>"],
            &[b"other=auth_token=<b>; auth_token=<a>"],
            &[b"auth_token=\"<a>\""],
            &[b" \tauth_token = <a>\t "],
            &[b"auth_token=<a>; auth_token=\"<a>\"", b"auth_token=<a>"],
            &[b"auth_token=; auth_token=<a>"],
            &[b"auth_token=deleted; auth_token=<a>; auth_token=550e8400-e29b-41d4-a716-446655440000"],
            &[b"auth_token=eyJhbGciOiJIUzI1NiJ9.e30.sig; auth_token=<a>", b"auth_token=\xff"],
            &[&long],
            &[&many],
        ];
        for cookies in headers {
            let presented = read(cookies, &[]);
            assert_eq!(presented.claim(), Claim::Tokens { candidates: &tokens("a"), others: Vec::new() });
        }
    }

    #[test]
    fn a_credential_of_another_application_alone_is_no_token() {
        for (cookie, authorization) in [
            (&b""[..], &b"Basic dTpw"[..]),
            (b"", b"Bearer "),
            (b"", b"<a>"),
            (b"auth_token", b""),
            (b"auth_token=", b""),
            (b"xauth_token=<a>; AUTH_TOKEN=<a>", b"Bearer<a>"),
        ] {
            assert_eq!(read(&[cookie], &[authorization]).claim(), Claim::Nothing, "{authorization:?}");
        }
        for (cookie, authorization) in
            [(&b"auth_token=abc"[..], &b""[..]), (b"auth_token=\xff", b""), (b"", b"Bearer <a>.<a>")]
        {
            assert_eq!(read(&[cookie], &[authorization]).claim(), Claim::Malformed, "{cookie:?}");
        }
    }

    #[test]
    fn several_tokens_are_candidates_and_bearer_tokens_take_precedence() {
        /// Cookies, bearer tokens, candidates and other tokens.
        type Case<'a> = (&'a [u8], &'a [&'a [u8]], &'a str, &'a str);
        let cases: [Case<'_>; 6] = [
            (b"auth_token=<a>; auth_token=<b>; auth_token=<a>", &[], "ab", ""),
            (b"", &[b"Bearer <a>", b"bearer \t <b>  "], "ab", ""),
            (b"", &[b"Basic dTpw, BEARER <a>"], "a", ""),
            (b"auth_token=<a>", &[b"Bearer <b>"], "b", "a"),
            (b"auth_token=<a>; auth_token=<b>", &[b"Bearer <a>"], "a", "b"),
            (b"auth_token=x.y; auth_token=<c>", &[b"Bearer <a>", b"Bearer x"], "a", "c"),
        ];
        for (cookies, bearers, candidates, others) in cases {
            let presented = read(&[cookies], bearers);
            let (candidates, others) = (tokens(candidates), tokens(others));
            let claim = Claim::Tokens { candidates: &candidates, others: others.iter().collect() };
            assert_eq!(presented.claim(), claim, "{bearers:?}");
            let all: Vec<&Token> = presented.all().collect();
            assert_eq!(all, candidates.iter().chain(&others).collect::<Vec<_>>(), "{bearers:?}");
        }
        let many: Vec<u8> =
            b"abcde".iter().flat_map(|digit| [b"auth_token=<", &[*digit][..], b">;"].concat()).collect();
        assert_ne!(read(&[&many], &[]).claim(), Claim::TooMany);
        assert_eq!(read(&[&many], &[b"Bearer <f>"]).claim(), Claim::TooMany);
    }
}
