//! How much of large answers may wait for clients to read them, over all clients together. A large answer leaves in small
//! pieces, so that what a client does not read stays here, where it is counted, and not in the server's write buffers. Called by
//! the door on every answer.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use actix_web::{
    body::{BodySize, BoxBody, EitherBody, MessageBody},
    dev::ServiceResponse,
    web::Bytes,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{answer::refused, error::Error};

/// Answers up to this many bytes are not counted: the server's own buffers hold as much for any connection.
const SMALL: u64 = 16 * 1024;

/// A piece of a large answer, in bytes.
const PIECE: usize = 8 * 1024;

/// What permits count.
const KIB: u64 = 1024;

/// The large answers of a process. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Budget(Arc<Semaphore>);

/// A large answer on its way; what it holds of the budget is given back when it is out, or its client gone.
struct Counted<B> {
    body: Pin<Box<B>>,
    rest: Bytes,
    _held: OwnedSemaphorePermit,
}

impl Budget {
    /// At most so many KiB wait at the same time.
    pub(crate) fn new(kib: usize) -> Self {
        Self(Arc::new(Semaphore::new(kib.min(Semaphore::MAX_PERMITS))))
    }

    /// Counts an answer if it is large; one for which there is no room any more becomes a refusal.
    pub(crate) fn count<B: MessageBody + 'static>(
        &self,
        answer: ServiceResponse<EitherBody<B>>,
    ) -> ServiceResponse<EitherBody<B>> {
        let BodySize::Sized(bytes) = answer.response().body().size() else { return answer };
        if bytes <= SMALL {
            return answer;
        }
        let (request, answer) = answer.into_parts();
        let (head, body) = answer.into_parts();
        let answer = match self.admit(body, bytes) {
            Some(body) => head.set_body(body),
            None => refused(Error::Crowded),
        };
        ServiceResponse::new(request, answer).map_into_right_body()
    }

    fn admit<B: MessageBody + 'static>(&self, body: B, bytes: u64) -> Option<BoxBody> {
        let kib = u32::try_from(bytes.div_ceil(KIB)).ok()?;
        let held = self.0.clone().try_acquire_many_owned(kib).ok()?;
        Some(BoxBody::new(Counted { body: Box::pin(body), rest: Bytes::new(), _held: held }))
    }
}

impl<B: MessageBody> MessageBody for Counted<B> {
    type Error = B::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, B::Error>>> {
        let this = self.get_mut();
        while this.rest.is_empty() {
            match this.body.as_mut().poll_next(cx) {
                Poll::Ready(Some(Ok(bytes))) => this.rest = bytes,
                other => return other,
            }
        }
        let piece = this.rest.split_to(this.rest.len().min(PIECE));
        Poll::Ready(Some(Ok(piece)))
    }
}

#[cfg(test)]
mod tests {
    use actix_web::{HttpResponse, body, http::StatusCode, test::TestRequest};

    use super::*;

    fn answer(bytes: usize) -> ServiceResponse<EitherBody<Bytes>> {
        let answer = HttpResponse::Ok().finish().set_body(Bytes::from(vec![b'x'; bytes]));
        ServiceResponse::new(TestRequest::default().to_http_request(), answer).map_into_left_body()
    }

    #[actix_web::test]
    async fn large_answers_share_the_budget_and_give_it_back() {
        let (budget, large) = (Budget::new(100), 60 * 1024);
        let status = |bytes| budget.count(answer(bytes)).status();
        let first = budget.count(answer(large));
        assert_eq!(status(large), StatusCode::SERVICE_UNAVAILABLE, "120 KiB of 100");
        assert_eq!(status(16 * 1024), StatusCode::OK, "small ones are not counted");
        let body = body::to_bytes(first.into_body()).await.ok().unwrap();
        assert_eq!(body, vec![b'x'; large], "all of it, in order");
        assert_eq!(status(large), StatusCode::OK, "given back");
        assert_eq!(status(large), StatusCode::OK, "also by a client that goes");
    }
}
