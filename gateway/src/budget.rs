//! Limits the bytes of large responses that wait for slow clients: in total, per user and per client address. A large
//! response is written in small chunks, so that unread bytes stay in its counted body and not in the server's write
//! buffers. Called by the middleware on every response.

use std::{
    collections::HashMap,
    net::IpAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use actix_web::{
    HttpMessage, HttpRequest,
    body::{BodySize, BoxBody, EitherBody, MessageBody},
    dev::ServiceResponse,
    web::Bytes,
};
use proto::Identity;

use crate::{client::Client, error::Error, response::refusal};

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

/// The minimum time between two warnings about refused responses.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// The budget of large responses of a process. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Budget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// The whole budget, in KiB.
    capacity: usize,
    usage: Mutex<Usage>,
}

#[derive(Debug, Default)]
struct Usage {
    total: usize,
    by_holder: HashMap<Holder, usize>,
    /// The time of the last warning.
    warned: Option<Instant>,
}

/// The user or client address that a response is counted for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Holder {
    User(String),
    Address(IpAddr),
}

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
    ) -> ServiceResponse<EitherBody<B>> {
        let BodySize::Sized(bytes) = response.response().body().size() else { return response };
        if bytes <= MAX_UNCOUNTED {
            return response;
        }
        let (request, response) = response.into_parts();
        let (head, body) = response.into_parts();
        let reservation =
            self.admit(Holder::of(&request), usize::try_from(bytes.div_ceil(KIB)).unwrap_or(usize::MAX));
        let response = match reservation {
            Some(reservation) => head.set_body(BoxBody::new(CountedBody {
                body: Box::pin(body),
                rest: Bytes::new(),
                _reservation: reservation,
            })),
            None => refusal(Error::ResponseBudget),
        };
        ServiceResponse::new(request, response).map_into_right_body()
    }

    fn admit(&self, holders: Vec<Holder>, kib: usize) -> Option<Reservation> {
        let capacity = self.0.capacity;
        let mut usage = self.0.usage();
        let full = holders.iter().find(|holder| {
            let own = usage.by_holder.get(holder).copied().unwrap_or_default();
            own > 0 && own.saturating_add(kib) > holder.share(capacity)
        });
        if full.is_some() || usage.total.saturating_add(kib) > capacity {
            usage.warn(full, capacity);
            return None;
        }
        usage.total += kib;
        for holder in &holders {
            *usage.by_holder.entry(holder.clone()).or_default() += kib;
        }
        drop(usage);
        Some(Reservation { budget: self.0.clone(), kib, holders })
    }
}

impl Shared {
    fn usage(&self) -> MutexGuard<'_, Usage> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Usage {
    /// Logs a refusal, at most once per [`WARNING_INTERVAL`].
    fn warn(&mut self, full: Option<&Holder>, capacity: usize) {
        if self.warned.is_some_and(|last| last.elapsed() < WARNING_INTERVAL) {
            return;
        }
        self.warned = Some(Instant::now());
        let unread = self.total;
        match full {
            Some(Holder::User(user)) => {
                tracing::warn!(
                    user,
                    unread,
                    capacity,
                    "response refused with 503: the user exceeds its share of --unread-answers"
                );
            }
            Some(Holder::Address(address)) => {
                tracing::warn!(%address, unread, capacity, "response refused with 503: the address exceeds its share of --unread-answers");
            }
            None => {
                tracing::warn!(
                    unread,
                    capacity,
                    "response refused with 503: unread responses of all clients exceed --unread-answers"
                )
            }
        }
    }
}

impl Holder {
    /// The user of a request, if authenticated, and its client address, if there is one.
    fn of(request: &HttpRequest) -> Vec<Self> {
        let extensions = request.extensions();
        let user = extensions.get::<Identity>().map(|identity| Self::User(identity.username.key()));
        let address = extensions.get::<Client>().and_then(|client| client.counted()).map(Self::Address);
        user.into_iter().chain(address).collect()
    }

    fn share(&self, capacity: usize) -> usize {
        match self {
            Self::User(_) => capacity / USER_SHARE,
            Self::Address(_) => capacity / ADDRESS_SHARE,
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut usage = self.budget.usage();
        usage.total -= self.kib;
        for holder in &self.holders {
            if let Some(own) = usage.by_holder.get_mut(holder) {
                *own -= self.kib;
                if *own == 0 {
                    usage.by_holder.remove(holder);
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
mod tests {
    use actix_web::{HttpResponse, body, http::StatusCode, test::TestRequest};

    use super::*;

    /// A response of `kib` KiB to `user`, from the address 10.0.0.`address`.
    fn response(kib: usize, user: &str, address: u8) -> ServiceResponse<EitherBody<Bytes>> {
        let response = HttpResponse::Ok().finish().set_body(Bytes::from(vec![b'x'; kib * 1024]));
        let request = TestRequest::default().to_http_request();
        let peer = Some(([10, 0, 0, address], 1).into());
        request.extensions_mut().insert(Client::of(peer, request.headers(), &[]));
        if let Ok(username) = user.parse() {
            request.extensions_mut().insert(Identity { username, session: String::new() });
        }
        ServiceResponse::new(request, response).map_into_left_body()
    }

    #[actix_web::test]
    async fn large_responses_share_the_budget_and_release_it() {
        let budget = Budget::new(100);
        let status = |kib| budget.count(response(kib, "alice", 1)).status();
        let first = budget.count(response(60, "alice", 1));
        assert_eq!(status(60), StatusCode::SERVICE_UNAVAILABLE, "120 KiB of 100");
        assert_eq!(status(16), StatusCode::OK, "small responses are not counted");
        let body = body::to_bytes(first.into_body()).await.ok().unwrap();
        assert_eq!(body, vec![b'x'; 60 * 1024], "complete and in order");
        assert_eq!(status(60), StatusCode::OK, "released");
        assert_eq!(status(60), StatusCode::OK, "also released by a client that disconnects");
        assert!(budget.0.usage().by_holder.is_empty(), "all reservations are released");
    }

    #[actix_web::test]
    async fn users_and_addresses_have_shares_of_the_budget() {
        // The budget is 800 KiB: 100 for a user, 400 for an address. Each entry is an unread response and whether it is
        // admitted.
        type Responses = &'static [(usize, &'static str, u8, bool)];
        let table: [(&str, Responses); 5] = [
            (
                "one user, several addresses",
                &[(50, "eve", 1, true), (50, "EVE", 2, true), (20, "eve", 3, false), (50, "bob", 1, true)],
            ),
            (
                "a response larger than the share",
                &[(300, "eve", 1, true), (20, "eve", 1, false), (50, "bob", 2, true)],
            ),
            (
                "one address, several users",
                &[
                    (99, "a", 1, true),
                    (99, "b", 1, true),
                    (99, "c", 1, true),
                    (99, "d", 1, true),
                    (99, "e", 1, false),
                    (99, "e", 2, true),
                ],
            ),
            ("anonymous", &[(300, "", 1, true), (150, "", 1, false), (300, "", 2, true)]),
            (
                "the total",
                &[(300, "a", 1, true), (300, "b", 2, true), (100, "c", 3, true), (101, "d", 4, false)],
            ),
        ];
        for (name, responses) in table {
            let budget = Budget::new(800);
            let mut unread = Vec::new();
            for &(kib, user, address, is_admitted) in responses {
                let counted = budget.count(response(kib, user, address));
                let want = if is_admitted { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
                assert_eq!(counted.status(), want, "{name}: {user} {address}");
                unread.push(counted);
            }
            assert!(budget.0.usage().warned.is_some(), "{name}: logged");
        }
    }
}
