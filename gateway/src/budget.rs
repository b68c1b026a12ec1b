//! How much of large answers may wait for clients to read them: over all clients together, of one user and of one client address. A
//! large answer leaves in small pieces, so that what a client does not read stays here, where it is counted, and not in the server's
//! write buffers. Called by the door on every answer.

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

use crate::{answer::refused, client::Client, error::Error};

/// Answers up to this many bytes are not counted: the server's own buffers hold as much for any connection.
const SMALL: u64 = 16 * 1024;

/// A piece of a large answer, in bytes.
const PIECE: usize = 8 * 1024;

/// What permits count.
const KIB: u64 = 1024;

/// One user has at most the `1 / USER` part of the budget, and one client address the `1 / ADDRESS` part. Each may always have one
/// answer, however large that is.
const USER: usize = 8;

/// See [`USER`].
const ADDRESS: usize = 2;

/// The time between two warnings that answers are refused.
const PAUSE: Duration = Duration::from_secs(60);

/// The large answers of a process. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Budget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// All of it, in KiB.
    most: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    all: usize,
    of: HashMap<Holder, usize>,
    /// When a refusal was last logged.
    warned: Option<Instant>,
}

/// Whom an answer is counted for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Holder {
    User(String),
    Address(IpAddr),
}

/// What one answer holds of the budget.
struct Part {
    budget: Arc<Shared>,
    kib: usize,
    holders: Vec<Holder>,
}

/// A large answer on its way; what it holds of the budget is given back when it is out, or its client gone.
struct Counted<B> {
    body: Pin<Box<B>>,
    rest: Bytes,
    _part: Part,
}

impl Budget {
    /// At most so many KiB wait at the same time.
    pub(crate) fn new(kib: usize) -> Self {
        Self(Arc::new(Shared { most: kib, held: Mutex::default() }))
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
        let part =
            self.admit(Holder::of(&request), usize::try_from(bytes.div_ceil(KIB)).unwrap_or(usize::MAX));
        let answer = match part {
            Some(part) => {
                head.set_body(BoxBody::new(Counted { body: Box::pin(body), rest: Bytes::new(), _part: part }))
            }
            None => refused(Error::Crowded),
        };
        ServiceResponse::new(request, answer).map_into_right_body()
    }

    fn admit(&self, holders: Vec<Holder>, kib: usize) -> Option<Part> {
        let most = self.0.most;
        let mut held = self.0.held();
        let full = holders.iter().find(|holder| {
            let own = held.of.get(holder).copied().unwrap_or_default();
            own > 0 && own.saturating_add(kib) > holder.share(most)
        });
        if full.is_some() || held.all.saturating_add(kib) > most {
            held.warn(full, most);
            return None;
        }
        held.all += kib;
        for holder in &holders {
            *held.of.entry(holder.clone()).or_default() += kib;
        }
        drop(held);
        Some(Part { budget: self.0.clone(), kib, holders })
    }
}

impl Shared {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// Logs a refusal, at most one within [`PAUSE`].
    fn warn(&mut self, full: Option<&Holder>, most: usize) {
        if self.warned.is_some_and(|last| last.elapsed() < PAUSE) {
            return;
        }
        self.warned = Some(Instant::now());
        let unread = self.all;
        match full {
            Some(Holder::User(user)) => {
                tracing::warn!(user, unread, most, "503: the user has a user's share of --unread-answers");
            }
            Some(Holder::Address(address)) => {
                tracing::warn!(%address, unread, most, "503: the address has an address's share of --unread-answers");
            }
            None => {
                tracing::warn!(unread, most, "503: clients that do not read have used up --unread-answers")
            }
        }
    }
}

impl Holder {
    /// The user and the client address of a request, as far as they are known.
    fn of(request: &HttpRequest) -> Vec<Self> {
        let extensions = request.extensions();
        let user = extensions.get::<Identity>().map(|identity| Self::User(identity.username.key()));
        let address = extensions.get::<Client>().and_then(|client| client.counted()).map(Self::Address);
        user.into_iter().chain(address).collect()
    }

    fn share(&self, most: usize) -> usize {
        match self {
            Self::User(_) => most / USER,
            Self::Address(_) => most / ADDRESS,
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let mut held = self.budget.held();
        held.all -= self.kib;
        for holder in &self.holders {
            if let Some(own) = held.of.get_mut(holder) {
                *own -= self.kib;
                if *own == 0 {
                    held.of.remove(holder);
                }
            }
        }
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

    /// An answer of so many KiB to a user, from the address 10.0.0.`address`.
    fn answer(kib: usize, user: &str, address: u8) -> ServiceResponse<EitherBody<Bytes>> {
        let answer = HttpResponse::Ok().finish().set_body(Bytes::from(vec![b'x'; kib * 1024]));
        let request = TestRequest::default().to_http_request();
        let peer = Some(([10, 0, 0, address], 1).into());
        request.extensions_mut().insert(Client::of(peer, request.headers(), &[]));
        if let Ok(username) = user.parse() {
            request.extensions_mut().insert(Identity { username, session: String::new() });
        }
        ServiceResponse::new(request, answer).map_into_left_body()
    }

    #[actix_web::test]
    async fn large_answers_share_the_budget_and_give_it_back() {
        let budget = Budget::new(100);
        let status = |kib| budget.count(answer(kib, "alice", 1)).status();
        let first = budget.count(answer(60, "alice", 1));
        assert_eq!(status(60), StatusCode::SERVICE_UNAVAILABLE, "120 KiB of 100");
        assert_eq!(status(16), StatusCode::OK, "small ones are not counted");
        let body = body::to_bytes(first.into_body()).await.ok().unwrap();
        assert_eq!(body, vec![b'x'; 60 * 1024], "all of it, in order");
        assert_eq!(status(60), StatusCode::OK, "given back");
        assert_eq!(status(60), StatusCode::OK, "also by a client that goes");
        assert!(budget.0.held().of.is_empty(), "nothing is kept");
    }

    #[actix_web::test]
    async fn one_user_and_one_address_have_a_share_of_the_budget() {
        // A budget of 800 KiB: 100 for a user, 400 for an address. Answers that stay unread, and whether each is admitted.
        type Answers = &'static [(usize, &'static str, u8, bool)];
        let table: [(&str, Answers); 5] = [
            (
                "a user, from whichever address",
                &[(50, "eve", 1, true), (50, "EVE", 2, true), (20, "eve", 3, false), (50, "bob", 1, true)],
            ),
            (
                "one answer above the share",
                &[(300, "eve", 1, true), (20, "eve", 1, false), (50, "bob", 2, true)],
            ),
            (
                "an address, as whichever user",
                &[
                    (99, "a", 1, true),
                    (99, "b", 1, true),
                    (99, "c", 1, true),
                    (99, "d", 1, true),
                    (99, "e", 1, false),
                    (99, "e", 2, true),
                ],
            ),
            ("without a user", &[(300, "", 1, true), (150, "", 1, false), (300, "", 2, true)]),
            (
                "all together",
                &[(300, "a", 1, true), (300, "b", 2, true), (100, "c", 3, true), (101, "d", 4, false)],
            ),
        ];
        for (name, answers) in table {
            let budget = Budget::new(800);
            let mut unread = Vec::new();
            for &(kib, user, address, is_admitted) in answers {
                let counted = budget.count(answer(kib, user, address));
                let want = if is_admitted { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
                assert_eq!(counted.status(), want, "{name}: {user} {address}");
                unread.push(counted);
            }
            assert!(budget.0.held().warned.is_some(), "{name}: logged");
        }
    }
}
