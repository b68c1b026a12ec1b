//! Limits of a request head. actix reads up to 128 KiB; requests of supported clients need a fraction of that. Pure. The
//! first check of the middleware.

use actix_web::{dev::RequestHead, http::Method};

use crate::error::Error;

/// The maximum length of a request target, in bytes.
const MAX_TARGET: usize = 4_096;

/// The maximum number of header lines.
const MAX_LINES: usize = 64;

/// The maximum size of all header names and values together, in bytes.
const MAX_HEADER_BYTES: usize = 16_384;

/// Refuses methods that apply to a connection instead of a resource.
pub(crate) fn check_method(method: &Method) -> Result<(), Error> {
    match method.as_str() {
        "CONNECT" | "TRACE" => Err(Error::Method("")),
        _ => Ok(()),
    }
}

/// Refuses a head that exceeds a limit.
pub(crate) fn check(head: &RequestHead) -> Result<(), Error> {
    let target = head.uri.path_and_query().map_or(0, |target| target.as_str().len());
    if target > MAX_TARGET {
        return Err(Error::TargetTooLong);
    }
    let size: usize = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if head.headers.len() > MAX_LINES || size > MAX_HEADER_BYTES { Err(Error::HeadTooLarge) } else { Ok(()) }
}
