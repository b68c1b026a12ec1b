//! CORS response headers (Fetch standard, "CORS protocol"). Only pages of allowed origins may read responses. Called by the
//! middleware, also for refusals.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        Method,
        header::{self, HeaderMap, HeaderName, HeaderValue},
    },
};

use crate::origin::{Allowed, RequestOrigin};

/// The allowed origin of a request, exactly as the request spells it.
#[derive(Debug, Clone)]
pub(crate) struct AllowedOrigin {
    value: HeaderValue,
    /// Whether its requests may use cookies. Unrelated sites share an opaque origin, so its cookies are not used.
    with_cookies: bool,
}

/// How long a browser may cache a preflight response, in seconds. A changed configuration takes effect after this time.
const PREFLIGHT_MAX_AGE: HeaderValue = HeaderValue::from_static("60");

/// The response headers that a page may read in addition to the CORS-safelisted ones: those that state what to do after a refusal.
const EXPOSED_HEADERS: HeaderValue = HeaderValue::from_static("Allow, Retry-After, WWW-Authenticate");

/// Sent by browsers before a public page accesses an address of a private network.
const REQUESTS_PRIVATE: HeaderName = HeaderName::from_static("access-control-request-private-network");
const ALLOWS_PRIVATE: HeaderName = HeaderName::from_static("access-control-allow-private-network");

impl AllowedOrigin {
    /// The allowed origin that these headers name. `None` unless there is exactly one.
    pub(crate) fn of(headers: &HeaderMap, allowed: Allowed<'_>) -> Option<Self> {
        let named = RequestOrigin::of(headers).filter(|named| allowed.contains(named))?;
        let value = headers.get(header::ORIGIN)?.clone();
        Some(Self { value, with_cookies: named != RequestOrigin::Opaque })
    }

    /// Adds the headers that allow the page to read the response.
    fn allow(&self, headers: &mut HeaderMap) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, self.value.clone());
        if self.with_cookies {
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED_HEADERS);
    }
}

/// Adds the CORS headers of a response. When any origin is allowed, every response depends on the request's origin. The
/// `Vary` header states this to caches, also on responses that no other origin may read.
pub(crate) fn add_headers(origin: Option<&AllowedOrigin>, allowed: Allowed<'_>, headers: &mut HeaderMap) {
    if let Some(origin) = origin {
        origin.allow(headers);
    }
    if allowed.opaque || !allowed.listed.is_empty() {
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
    }
}

/// Whether the request is a CORS preflight.
pub(crate) fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::OPTIONS && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// The response to a preflight that allows `methods`. `None` when the request is not a preflight.
pub(crate) fn preflight(request: &HttpRequest, methods: &'static str) -> Option<HttpResponse> {
    if !is_preflight(request.method(), request.headers()) {
        return None;
    }
    let mut response = HttpResponse::NoContent();
    response.insert_header((header::ACCESS_CONTROL_ALLOW_METHODS, methods));
    response.insert_header((header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_MAX_AGE));
    if let Some(requested) = request.headers().get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        response.insert_header((header::ACCESS_CONTROL_ALLOW_HEADERS, requested.clone()));
    }
    if request.headers().get(&REQUESTS_PRIVATE).is_some_and(|value| value == "true") {
        response.insert_header((ALLOWS_PRIVATE, "true"));
    }
    Some(response.finish())
}
