//! What the door counts. Labels come from the route table and the error table only, so a client cannot invent new ones.

use std::time::Instant;

use actix_web::http::StatusCode;

use crate::{error::Error, routes::Route};

/// A request was answered by the service of `route`, first byte to answer.
pub(crate) fn answered(route: &'static Route, method: &'static str, status: StatusCode, started: Instant) {
    let labels = [("service", route.upstream.label()), ("route", route.path), ("method", method)];
    metrics::histogram!("godzilla_http_request_seconds", &labels).record(started.elapsed().as_secs_f64());
    let [service, path, method] = labels;
    let labels = [service, path, method, ("status", class(status))];
    metrics::counter!("godzilla_http_requests_total", &labels).increment(1);
}

/// The gateway refused a request.
pub(crate) fn refused(error: Error) {
    metrics::counter!("godzilla_http_refused_total", "reason" => error.label()).increment(1);
}

/// How many WebSockets pass through this process.
pub(crate) fn spliced() -> metrics::Gauge {
    metrics::gauge!("godzilla_spliced_sockets")
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
