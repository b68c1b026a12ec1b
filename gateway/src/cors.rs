//! The headers that a browser needs before it lets a page of another origin read an answer (the Fetch standard, "CORS protocol").
//! Pages of allowed origins may read; no others. Called by the door, for refusals too.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        Method,
        header::{self, HeaderMap, HeaderName, HeaderValue},
    },
};

use crate::origin::{Allowed, Named};

/// The allowed origin that a request comes from, exactly as the request spells it.
#[derive(Debug, Clone)]
pub(crate) struct Guest {
    spelled: HeaderValue,
    /// Whether its requests may carry cookies. An opaque origin is shared by strangers, so its cookies are not used.
    with_cookies: bool,
}

/// How long a browser may cache the answer to a preflight, in seconds: so long it goes by a configuration that has changed.
const CACHED: HeaderValue = HeaderValue::from_static("60");

/// What a page may read beside the headers that every page may.
const READABLE: HeaderValue = HeaderValue::from_static("Retry-After");

/// Asked by browsers before a public page reaches an address of a private network.
const ASKS_PRIVATE: HeaderName = HeaderName::from_static("access-control-request-private-network");
const ALLOWS_PRIVATE: HeaderName = HeaderName::from_static("access-control-allow-private-network");

impl Guest {
    /// The allowed origin that these headers name, if there is exactly one.
    pub(crate) fn of(headers: &HeaderMap, allowed: Allowed<'_>) -> Option<Self> {
        let named = Named::of(headers).filter(|named| allowed.has(named))?;
        let spelled = headers.get(header::ORIGIN)?.clone();
        Some(Self { spelled, with_cookies: named != Named::Opaque })
    }

    /// Lets the page read an answer with these headers.
    fn allow(&self, headers: &mut HeaderMap) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, self.spelled.clone());
        if self.with_cookies {
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, READABLE);
    }
}

/// Completes the headers of an answer to `guest`, or to any other client. Where any origin is allowed, every answer depends on the
/// request's origin, and caches must know that also of the answers that no other origin may read.
pub(crate) fn complete(guest: Option<&Guest>, allowed: Allowed<'_>, headers: &mut HeaderMap) {
    if let Some(guest) = guest {
        guest.allow(headers);
    }
    if allowed.opaque || !allowed.listed.is_empty() {
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
    }
}

/// Whether the request asks which methods another origin may use.
pub(crate) fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::OPTIONS && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// The answer to the question whether `methods` may be used from another origin, if the request asks that.
pub(crate) fn preflight(request: &HttpRequest, methods: &'static str) -> Option<HttpResponse> {
    if !is_preflight(request.method(), request.headers()) {
        return None;
    }
    let mut answer = HttpResponse::NoContent();
    answer.insert_header((header::ACCESS_CONTROL_ALLOW_METHODS, methods));
    answer.insert_header((header::ACCESS_CONTROL_MAX_AGE, CACHED));
    if let Some(wanted) = request.headers().get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        answer.insert_header((header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone()));
    }
    if request.headers().get(&ASKS_PRIVATE).is_some_and(|asked| asked == "true") {
        answer.insert_header((ALLOWS_PRIVATE, "true"));
    }
    Some(answer.finish())
}
