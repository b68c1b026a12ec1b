//! The CORS headers of every response, and the preflight (Fetch standard). Used by [`super::serve`].

use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        Method,
        header::{self, HeaderName, HeaderValue},
    },
};

use crate::config::Cors;

/// The headers of the response to `request`.
pub(super) fn headers(cors: &Cors, request: &HttpRequest) -> Vec<(HeaderName, HeaderValue)> {
    let Some(origin) = request.headers().get(header::ORIGIN) else { return Vec::new() };
    let any = HeaderValue::from_static("*");
    let with_cookies = |origin: &HeaderValue| {
        vec![
            (header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone()),
            (header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true")),
            (header::VARY, HeaderValue::from_static("Origin")),
        ]
    };
    match cors {
        Cors::Off => Vec::new(),
        Cors::Any => vec![(header::ACCESS_CONTROL_ALLOW_ORIGIN, any)],
        Cors::Reflect => with_cookies(origin),
        Cors::Origins(origins) if origins.iter().any(|allowed| origin == allowed.as_str()) => {
            with_cookies(origin)
        }
        Cors::Origins(_) => vec![(header::VARY, HeaderValue::from_static("Origin"))],
    }
}

/// The response to a preflight. `None` if `request` is not a preflight, or cross-origin access is off.
pub(super) fn preflight(cors: &Cors, request: &HttpRequest) -> Option<HttpResponse> {
    if request.method() != Method::OPTIONS || *cors == Cors::Off {
        return None;
    }
    let mut response = HttpResponse::NoContent();
    response.insert_header((header::ACCESS_CONTROL_ALLOW_METHODS, "GET,POST"));
    if let Some(wanted) = request.headers().get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        response.insert_header((header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone()));
    }
    response.insert_header((header::CONTENT_LENGTH, "0"));
    Some(response.finish())
}
