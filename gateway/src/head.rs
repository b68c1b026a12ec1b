//! How large a request head may be. actix reads up to 128 KiB; a request of ours needs a fraction of that. Pure; called by
//! the door first of all.

use actix_web::{dev::RequestHead, http::Method};

use crate::error::Error;

/// The longest request target, in bytes.
const TARGET: usize = 4_096;

/// The most header lines.
const LINES: usize = 64;

/// The most bytes of all header names and values together.
const HEADERS: usize = 16_384;

/// Refuses methods that mean something to a connection and not to a resource.
pub(crate) fn check_method(method: &Method) -> Result<(), Error> {
    match method.as_str() {
        "CONNECT" | "TRACE" => Err(Error::Method("")),
        // A POST of HTTP/1.0 without a length, which the binary's server renames.
        "BODY" => Err(Error::NoLength),
        _ => Ok(()),
    }
}

/// Refuses a head that no client of ours sends.
pub(crate) fn check(head: &RequestHead) -> Result<(), Error> {
    let target = head.uri.path_and_query().map_or(0, |target| target.as_str().len());
    if target > TARGET {
        return Err(Error::TargetTooLong);
    }
    let size: usize = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if head.headers.len() > LINES || size > HEADERS { Err(Error::HeadTooLarge) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn ask(request: TestRequest) -> Result<(), Error> {
        check(request.to_http_request().head())
    }

    #[test]
    fn a_target_has_at_most_4096_bytes() {
        let target = |length: usize| TestRequest::with_uri(&format!("/?{}", "a".repeat(length - 2)));
        assert_eq!(ask(target(TARGET)), Ok(()));
        assert_eq!(ask(target(TARGET + 1)), Err(Error::TargetTooLong));
    }

    #[test]
    fn headers_have_at_most_64_lines_and_16_kib() {
        let lines = |count: usize| {
            (0..count).fold(TestRequest::default(), |request, number| request.append_header(("x", number)))
        };
        assert_eq!(ask(lines(LINES)), Ok(()));
        assert_eq!(ask(lines(LINES + 1)), Err(Error::HeadTooLarge));
        let bytes = |count: usize| TestRequest::default().append_header(("x", "a".repeat(count - 1)));
        assert_eq!(ask(bytes(HEADERS)), Ok(()));
        assert_eq!(ask(bytes(HEADERS + 1)), Err(Error::HeadTooLarge));
    }
}
