//! Reading of request bodies: JSON content type, limited size, limited time.

use std::time::Duration;

use actix_web::{HttpMessage, HttpRequest, error::PayloadError, http::header, web::Bytes};
use futures_util::Stream;
use runtime::body::ReadError;

use crate::Error;

/// Limits of a body.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Maximum size in bytes.
    pub limit: usize,
    /// Maximum time from the start of reading to the last byte.
    pub deadline: Duration,
}

/// Checks content type and declared length before the body is read.
pub fn check_head(request: &HttpRequest, bounds: Bounds) -> Result<(), Error> {
    let mut types = request.headers().get_all(header::CONTENT_TYPE);
    let one = types.next().is_some() && types.next().is_none();
    if !one || !request.content_type().eq_ignore_ascii_case("application/json") {
        return Err(Error::MediaType);
    }
    let declared = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    match declared.map(str::parse::<usize>) {
        Some(Ok(length)) if length > bounds.limit => Err(Error::TooLarge(bounds.limit)),
        Some(Err(_)) => Err(Error::Incomplete),
        _ => Ok(()),
    }
}

/// Reads the whole body.
pub async fn read<S>(body: S, bounds: Bounds) -> Result<Bytes, Error>
where
    S: Stream<Item = Result<Bytes, PayloadError>>,
{
    let read = runtime::body::read(body, bounds.limit, bounds.deadline).await;
    read.map_err(|error| match error {
        // Also the limit of another layer, such as the HTTP server.
        ReadError::TooLarge | ReadError::Broken(PayloadError::Overflow) => Error::TooLarge(bounds.limit),
        ReadError::Timeout => Error::BodyTimeout,
        ReadError::Broken(_) => Error::Incomplete,
    })
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;
    use futures_util::{StreamExt, stream};

    use super::*;

    const BOUNDS: Bounds = Bounds { limit: 8, deadline: Duration::from_secs(10) };

    async fn read_chunks(chunks: &[&'static str]) -> Result<Bytes, Error> {
        read(stream::iter(chunks.iter().map(|chunk| Ok(Bytes::from_static(chunk.as_bytes())))), BOUNDS).await
    }

    #[actix_rt::test]
    async fn a_body_at_the_limit_is_accepted_and_a_larger_one_refused() {
        assert_eq!(read_chunks(&["1234", "5678"]).await.unwrap(), "12345678");
        assert!(matches!(read_chunks(&["1234", "5678", "9"]).await, Err(Error::TooLarge(8))));
        assert!(matches!(read_chunks(&["123456789"]).await, Err(Error::TooLarge(8))));
    }

    #[actix_rt::test]
    async fn a_body_that_does_not_end_times_out() {
        let bounds = Bounds { deadline: Duration::from_millis(1), ..BOUNDS };
        let stuck = stream::iter([Ok(Bytes::from_static(b"1"))]).chain(stream::pending());
        assert!(matches!(read(stuck, bounds).await, Err(Error::BodyTimeout)));
    }

    #[actix_rt::test]
    async fn a_truncated_body_is_incomplete() {
        let broken = stream::iter([Ok(Bytes::from_static(b"1")), Err(PayloadError::Incomplete(None))]);
        assert!(matches!(read(broken, BOUNDS).await, Err(Error::Incomplete)));
    }

    #[test]
    fn only_json_within_the_limit_is_read() {
        let head = |kind: &str, length: &str| {
            let request = TestRequest::post().insert_header((header::CONTENT_TYPE, kind));
            check_head(&request.insert_header((header::CONTENT_LENGTH, length)).to_http_request(), BOUNDS)
        };
        for good in ["application/json", "Application/JSON", "application/json; charset=utf-8"] {
            assert!(head(good, "8").is_ok(), "{good}");
        }
        for bad in ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", "", "text/json"] {
            assert!(matches!(head(bad, "8"), Err(Error::MediaType)), "{bad}");
        }
        assert!(matches!(head("application/json", "9"), Err(Error::TooLarge(8))));
        let bare = TestRequest::post().to_http_request();
        assert!(matches!(check_head(&bare, BOUNDS), Err(Error::MediaType)));
    }
}
