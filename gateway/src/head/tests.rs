//! The limits of a head.

use actix_web::test::TestRequest;

use super::*;

fn check_request(request: TestRequest) -> Result<(), Error> {
    check(request.to_http_request().head())
}

#[test]
fn targets_over_4096_bytes_are_refused() {
    let target = |length: usize| TestRequest::with_uri(&format!("/?{}", "a".repeat(length - 2)));
    assert_eq!(check_request(target(MAX_TARGET)), Ok(()));
    assert_eq!(check_request(target(MAX_TARGET + 1)), Err(Error::TargetTooLong));
}

#[test]
fn heads_over_64_lines_or_16_kib_are_refused() {
    let lines = |count: usize| {
        (0..count).fold(TestRequest::default(), |request, number| request.append_header(("x", number)))
    };
    assert_eq!(check_request(lines(MAX_LINES)), Ok(()));
    assert_eq!(check_request(lines(MAX_LINES + 1)), Err(Error::HeadTooLarge));
    let bytes = |count: usize| TestRequest::default().append_header(("x", "a".repeat(count - 1)));
    assert_eq!(check_request(bytes(MAX_HEADER_BYTES)), Ok(()));
    assert_eq!(check_request(bytes(MAX_HEADER_BYTES + 1)), Err(Error::HeadTooLarge));
}
