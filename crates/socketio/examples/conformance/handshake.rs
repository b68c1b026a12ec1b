//! The handshake object of a session's first request, as the reference implementation passes it to
//! applications.

use std::time::SystemTime;

use actix_web::{
    HttpRequest,
    http::header::{self, HeaderMap},
    web,
};
use serde_json::{Map, Value, json};

/// The handshake object without `auth`, which differs by namespace.
pub fn handshake(request: &HttpRequest) -> Value {
    let now = SystemTime::now();
    let issued = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis());
    json!({
        "headers": headers(request.headers()),
        "time": humantime::format_rfc3339_millis(now).to_string(),
        "address": request.peer_addr().map(|address| address.ip().to_string()),
        "xdomain": request.headers().contains_key(header::ORIGIN),
        "secure": request.connection_info().scheme() == "https",
        "issued": u64::try_from(issued).unwrap_or(0),
        "url": request.uri().to_string(),
        "query": query(request),
    })
}

/// The headers by lower-case name. The values of a repeated header are joined.
pub fn headers(all: &HeaderMap) -> Value {
    let mut headers = Map::new();
    for (name, value) in all {
        let value = String::from_utf8_lossy(value.as_bytes());
        let joined = match headers.get(name.as_str()).and_then(Value::as_str) {
            Some(before) => format!("{before}, {value}"),
            None => value.into_owned(),
        };
        headers.insert(name.as_str().to_owned(), joined.into());
    }
    headers.into()
}

/// The decoded query. The last value of a repeated parameter counts.
pub fn query(request: &HttpRequest) -> Value {
    let pairs = web::Query::<Vec<(String, String)>>::from_query(request.query_string());
    let pairs = pairs.map(web::Query::into_inner).unwrap_or_default();
    pairs.into_iter().map(|(name, value)| (name, Value::String(value))).collect::<Map<_, _>>().into()
}
