//! What browsers want to hear before a page of another origin may read our answers (the Fetch standard, "CORS protocol"):
//! the pages of listed origins may, with their cookies; nobody else's. Called by the door, for refusals too.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        Method,
        header::{self, HeaderMap, HeaderName, HeaderValue},
    },
};

use crate::origin::Origin;

/// The listed origin that a request comes from, as it names itself.
#[derive(Debug, Clone)]
pub(crate) struct Guest(HeaderValue);

/// How long a browser may cache the answer to a preflight, in seconds: so long it goes by a configuration that has changed.
const CACHED: HeaderValue = HeaderValue::from_static("60");

/// Headers of answers that scripts of other origins may read, besides those that they always may.
const EXPOSED: HeaderValue = HeaderValue::from_static("Retry-After");

/// Set by browsers on the preflight of a page in a public network that asks a server in a private one.
const REQUEST_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-request-private-network");
const ALLOW_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-allow-private-network");

impl Guest {
    /// The listed origin behind these headers, if there is exactly one.
    pub(crate) fn of(headers: &HeaderMap, listed: &[Origin]) -> Option<Self> {
        let mut all = headers.get_all(header::ORIGIN);
        let (value, None) = (all.next()?, all.next()) else { return None };
        let origin: Origin = value.to_str().ok()?.parse().ok()?;
        listed.contains(&origin).then(|| Self(value.clone()))
    }

    /// Lets the page read an answer with these headers.
    fn allow(&self, headers: &mut HeaderMap) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, self.0.clone());
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    }
}

/// Completes the headers of an answer to `guest`, or to anybody else. Where any origin is listed, every answer depends on the
/// request's origin, and caches must know that also of the answers that no other origin may read.
pub(crate) fn complete(guest: Option<&Guest>, listed: &[Origin], headers: &mut HeaderMap) {
    if let Some(guest) = guest {
        guest.allow(headers);
    }
    if !listed.is_empty() {
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
    }
}

/// The answer to the question whether `methods` may be used from another origin, if the request asks that.
pub(crate) fn preflight(request: &HttpRequest, methods: &'static str) -> Option<HttpResponse> {
    let asked = request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    if request.method() != Method::OPTIONS || !asked {
        return None;
    }
    let mut answer = HttpResponse::NoContent();
    answer.insert_header((header::ACCESS_CONTROL_ALLOW_METHODS, methods));
    answer.insert_header((header::ACCESS_CONTROL_MAX_AGE, CACHED));
    if let Some(wanted) = request.headers().get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        answer.insert_header((header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone()));
    }
    if request.headers().contains_key(&REQUEST_PRIVATE_NETWORK) {
        answer.insert_header((ALLOW_PRIVATE_NETWORK, "true"));
    }
    Some(answer.finish())
}
