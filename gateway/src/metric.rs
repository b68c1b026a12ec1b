//! The metrics of the middleware. Labels are values of the route table and the error table only, so clients cannot create
//! new ones.

use std::time::Instant;

use actix_web::http::StatusCode;

use crate::{error::Error, routes::Route};

/// Records the response of the service of `route`, and the time from the call of the middleware until the response.
pub(crate) fn record_request(
    route: &'static Route,
    method: &'static str,
    status: StatusCode,
    started: Instant,
) {
    let (service, path) = (route.upstream.label(), route.path);
    metrics::histogram!(
        "godzilla_http_request_seconds", "service" => service, "route" => path, "method" => method
    )
    .record(started.elapsed().as_secs_f64());
    metrics::counter!(
        "godzilla_http_requests_total",
        "service" => service, "route" => path, "method" => method, "status" => class(status)
    )
    .increment(1);
}

/// Counts a request that the gateway refused.
pub(crate) fn record_refusal(error: Error) {
    metrics::counter!("godzilla_http_refused_total", "reason" => error.label()).increment(1);
}

/// The number of WebSockets that this process proxies.
pub(crate) fn proxied_websockets() -> metrics::Gauge {
    metrics::gauge!("godzilla_proxied_websockets")
}

fn class(status: StatusCode) -> &'static str {
    match status.as_u16() {
        100..=199 => "1xx",
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        _ => "5xx",
    }
}
