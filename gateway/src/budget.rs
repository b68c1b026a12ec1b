//! Limits the bytes of large responses that wait for slow clients: in total, per user and per client address. A large
//! response is written in small chunks, so that unread bytes stay in its counted body and not in the server's write
//! buffers. Called by the middleware on every response.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use actix_web::{
    HttpMessage, HttpRequest,
    body::{BodySize, BoxBody, EitherBody, MessageBody},
    dev::ServiceResponse,
    web::Bytes,
};
use proto::Identity;

use crate::{client::Client, error::Error, response::refusal, warnings::Warnings};

/// The maximum size of a response that is not counted, in bytes. The server's own buffers hold as many bytes for any
/// connection.
const MAX_UNCOUNTED: u64 = 16 * 1024;

/// The size of a chunk of a large response, in bytes.
const CHUNK: usize = 8 * 1024;

/// The unit of the budget, in bytes.
const KIB: u64 = 1024;

/// One user may hold `1 / USER_SHARE` of the budget, or one response of any size.
const USER_SHARE: usize = 8;

/// One client address may hold `1 / ADDRESS_SHARE` of the budget, or one response of any size.
const ADDRESS_SHARE: usize = 2;

/// The budget of large responses of a process. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Budget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// The whole budget, in KiB.
    capacity: usize,
    /// The KiB that each holder holds.
    usage: Mutex<HashMap<String, usize>>,
}

/// A holder, and the KiB that it may hold.
type Holder = (String, usize);

/// The part of the budget that one response holds. Released on drop.
struct Reservation {
    budget: Arc<Shared>,
    kib: usize,
    holders: Vec<Holder>,
}

/// The body of a large response. Its reservation is released when it was written or its client disconnected.
struct CountedBody<B> {
    body: Pin<Box<B>>,
    rest: Bytes,
    _reservation: Reservation,
}

impl Budget {
    /// A budget of `kib` KiB.
    pub(crate) fn new(kib: usize) -> Self {
        Self(Arc::new(Shared { capacity: kib, usage: Mutex::default() }))
    }

    /// Reserves budget for a large response. The result is a refusal when the budget is exhausted.
    pub(crate) fn count<B: MessageBody + 'static>(
        &self,
        response: ServiceResponse<EitherBody<B>>,
        warnings: &Warnings,
    ) -> ServiceResponse<EitherBody<B>> {
        let BodySize::Sized(bytes) = response.response().body().size() else { return response };
        if bytes <= MAX_UNCOUNTED {
            return response;
        }
        let (request, response) = response.into_parts();
        let (head, body) = response.into_parts();
        let kib = usize::try_from(bytes.div_ceil(KIB)).unwrap_or(usize::MAX);
        let response = match self.admit(self.holders(&request), kib) {
            Ok(reservation) => head.set_body(BoxBody::new(CountedBody {
                body: Box::pin(body),
                rest: Bytes::new(),
                _reservation: reservation,
            })),
            Err(holder) => {
                warnings.unread_answers(&holder);
                refusal(Error::ResponseBudget)
            }
        };
        ServiceResponse::new(request, response).map_into_right_body()
    }

    /// All clients, the user of a request, if authenticated, and its client address, if there is one.
    fn holders(&self, request: &HttpRequest) -> Vec<Holder> {
        let (extensions, capacity) = (request.extensions(), self.0.capacity);
        let user = extensions.get::<Identity>();
        let user = user.map(|identity| (format!("user {}", identity.username.key()), capacity / USER_SHARE));
        let address = extensions.get::<Client>().and_then(|client| client.counted());
        let address = address.map(|address| (format!("address {address}"), capacity / ADDRESS_SHARE));
        let all = ("all clients".to_owned(), capacity);
        [Some(all), user, address].into_iter().flatten().collect()
    }

    /// The error is the holder whose share is exhausted.
    fn admit(&self, holders: Vec<Holder>, kib: usize) -> Result<Reservation, String> {
        let mut usage = self.0.usage();
        let is_full = |(holder, share): &&Holder| {
            let own = usage.get(holder).copied().unwrap_or_default();
            let is_alone = own == 0 && *share < self.0.capacity;
            !is_alone && own.saturating_add(kib) > *share
        };
        if let Some((holder, _)) = holders.iter().find(is_full) {
            return Err(holder.clone());
        }
        for (holder, _) in &holders {
            *usage.entry(holder.clone()).or_default() += kib;
        }
        drop(usage);
        Ok(Reservation { budget: self.0.clone(), kib, holders })
    }
}

impl Shared {
    fn usage(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut usage = self.budget.usage();
        for (holder, _) in &self.holders {
            if let Some(own) = usage.get_mut(holder) {
                *own -= self.kib;
                if *own == 0 {
                    usage.remove(holder);
                }
            }
        }
    }
}

impl<B: MessageBody> MessageBody for CountedBody<B> {
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
        let chunk = this.rest.split_to(this.rest.len().min(CHUNK));
        Poll::Ready(Some(Ok(chunk)))
    }
}

#[cfg(test)]
mod tests;
