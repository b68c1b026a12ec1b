//! What browsers want to hear before a page of another origin may read our answers (the Fetch standard, "CORS protocol"):
//! the pages of listed origins may, with their cookies; nobody else's. Called by the door, for refusals too.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        Method,
        header::{self, HeaderMap, HeaderValue},
    },
};

use crate::origin::Origin;

/// The listed origin that a request comes from, as it names itself.
#[derive(Debug, Clone)]
pub(crate) struct Guest(HeaderValue);

/// How long a browser may remember the answer to a preflight, in seconds.
const REMEMBERED: HeaderValue = HeaderValue::from_static("600");

impl Guest {
    /// The listed origin behind these headers, if there is exactly one.
    pub(crate) fn of(headers: &HeaderMap, listed: &[Origin]) -> Option<Self> {
        let mut all = headers.get_all(header::ORIGIN);
        let (value, None) = (all.next()?, all.next()) else { return None };
        let origin: Origin = value.to_str().ok()?.parse().ok()?;
        listed.contains(&origin).then(|| Self(value.clone()))
    }

    /// Lets the page read an answer with these headers.
    pub(crate) fn allow(&self, headers: &mut HeaderMap) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, self.0.clone());
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
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
    answer.insert_header((header::ACCESS_CONTROL_MAX_AGE, REMEMBERED));
    if let Some(wanted) = request.headers().get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        answer.insert_header((header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone()));
    }
    Some(answer.finish())
}
