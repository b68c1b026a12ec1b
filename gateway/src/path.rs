//! Checks that a request target is canonical. Only a canonical target selects the same route here and at every other tier.
//! Pure. Called by the middleware before the route lookup.

use std::borrow::Cow;

use actix_web::http::Uri;

use crate::{error::Error, origin::Origin};

/// The percent-decoded path segments of a canonical target. `/` has no segments. `own` is the origin in the Host header.
pub(crate) fn segments<'a>(uri: &'a Uri, own: Option<&Origin>) -> Result<Vec<Cow<'a, str>>, Error> {
    check_authority(uri, own)?;
    let Some(rest) = uri.path().strip_prefix('/') else {
        return Err(Error::Path("the request target must be a path"));
    };
    if rest.is_empty() {
        return Ok(Vec::new());
    }
    let trimmed = rest.strip_suffix('/').unwrap_or(rest);
    let mut segments = trimmed.split('/').map(segment).collect::<Result<Vec<_>, _>>()?;
    if trimmed.len() < rest.len() {
        segments.push(Cow::Borrowed(""));
    }
    Ok(segments)
}

/// Checks that an absolute target names the host of the Host header.
fn check_authority(uri: &Uri, own: Option<&Origin>) -> Result<(), Error> {
    let Some(authority) = uri.authority() else { return Ok(()) };
    let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
    let named = Origin::new(uri.scheme_str() == Some("https"), authority.as_str());
    let is_same = is_http && named.as_ref().zip(own).is_some_and(|(named, own)| named.same_host(own));
    if is_same { Ok(()) } else { Err(Error::Path("the request target names another host")) }
}

/// Decodes one segment. Refuses a segment that another tier could parse as a different path.
fn segment(raw: &str) -> Result<Cow<'_, str>, Error> {
    let refused = Err(Error::Path("the path is not in canonical form"));
    let Some(text) = decoded(raw) else { return refused };
    let is_ambiguous = |c: char| matches!(c, '/' | '\\' | ';' | '%') || c.is_control();
    if text.is_empty() || text == "." || text == ".." || text.contains(is_ambiguous) {
        refused
    } else {
        Ok(text)
    }
}

/// Decodes percent escapes. `None` when an escape is malformed or the result is not UTF-8.
fn decoded(raw: &str) -> Option<Cow<'_, str>> {
    if !raw.contains('%') {
        return Some(Cow::Borrowed(raw));
    }
    let (mut bytes, mut rest) = (Vec::with_capacity(raw.len()), raw.as_bytes());
    while let [first, tail @ ..] = rest {
        if *first == b'%' {
            let [high, low, after @ ..] = tail else { return None };
            bytes.push(hex(*high)? << 4 | hex(*low)?);
            rest = after;
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

fn hex(digit: u8) -> Option<u8> {
    (digit as char).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests;
