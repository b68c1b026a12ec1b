//! Reads a whole body of bounded size within bounded time.

use std::{pin::pin, time::Duration};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use tokio::time::timeout;

/// Why a body was not read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError<E> {
    /// It has more bytes than the limit.
    #[error("the body is too large")]
    TooLarge,
    /// It did not end in time.
    #[error("the body did not arrive in time")]
    Timeout,
    /// The stream failed.
    #[error("the body is broken: {0}")]
    Broken(E),
}

/// Reads the whole body of at most `limit` bytes, `within` this time.
///
/// # Errors
/// When the body exceeds a bound or the stream fails. The rest of the body is not read.
pub async fn read<S, E>(body: S, limit: usize, within: Duration) -> Result<Bytes, ReadError<E>>
where
    S: Stream<Item = Result<Bytes, E>>,
{
    let reading = async {
        let mut body = pin!(body);
        let mut whole = BytesMut::new();
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(ReadError::Broken)?;
            if whole.len() + chunk.len() > limit {
                return Err(ReadError::TooLarge);
            }
            whole.extend_from_slice(&chunk);
        }
        Ok(whole.freeze())
    };
    timeout(within, reading).await.unwrap_or(Err(ReadError::Timeout))
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    /// A limit of time that no test reaches.
    const LONG: Duration = Duration::from_secs(60);

    async fn read_chunks(chunks: &[Result<&'static str, u8>]) -> Result<Bytes, ReadError<u8>> {
        let chunks = chunks.iter().map(|chunk| chunk.map(|text| Bytes::from_static(text.as_bytes())));
        read(stream::iter(chunks), 8, LONG).await
    }

    #[tokio::test]
    async fn a_body_at_the_limit_is_read_and_a_larger_one_refused() {
        assert_eq!(read_chunks(&[Ok("1234"), Ok("5678")]).await, Ok(Bytes::from_static(b"12345678")));
        assert_eq!(read_chunks(&[Ok("1234"), Ok("5678"), Ok("9")]).await, Err(ReadError::TooLarge));
        assert_eq!(read_chunks(&[Ok("123456789")]).await, Err(ReadError::TooLarge));
    }

    #[tokio::test]
    async fn a_body_that_fails_or_does_not_end_is_an_error() {
        assert_eq!(read_chunks(&[Ok("1"), Err(7)]).await, Err(ReadError::Broken(7)));
        let stuck = stream::iter([Ok::<_, u8>(Bytes::from_static(b"1"))]).chain(stream::pending());
        assert_eq!(read(stuck, 8, Duration::from_millis(1)).await, Err(ReadError::Timeout));
    }
}
