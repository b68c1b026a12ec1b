//! A forwarded request: rewritten from its parsed form, with a signed identity.

use std::time::Duration;

use actix_web::{HttpMessage, HttpRequest, http::header as own};
use bytes::Bytes;
use cluster::Backend;
use http_body_util::Full;
use hyper::{
    HeaderMap, Method, Request,
    header::{HeaderName, HeaderValue},
};
use proto::{
    Identity, Timestamp, identity,
    signature::{Key, Target},
};

use super::headers;
use crate::{client::Client, error::Error, routes::SOCKETS, session_id::names_session};

const POLL_LIMIT: HeaderName = HeaderName::from_static(identity::POLL_LIMIT);

/// A request without its destination.
pub(super) struct Outgoing {
    method: Method,
    /// The path with the query, unchanged.
    target: String,
    pub(super) headers: HeaderMap,
    body: Bytes,
}

impl Outgoing {
    /// Rewrites `request`, which has passed the middleware, with this body.
    pub(super) fn new(request: &HttpRequest, body: Bytes, key: &Key) -> Result<Self, Error> {
        let invalid = Error::Path("the request cannot be passed on");
        let method = Method::from_bytes(request.method().as_str().as_bytes()).map_err(|_| invalid)?;
        let target = request.uri().path_and_query().ok_or(invalid)?.as_str().to_owned();
        let signed_target = Target { method: method.as_str(), path: &target };
        let identity = key.sign(request.extensions().get::<Identity>(), signed_target, Timestamp::now());
        let client = request.extensions().get::<Client>().copied().ok_or(Error::NoAddress)?;
        let host = request.headers().get(own::HOST).and_then(|host| host.to_str().ok());
        let mut headers = headers::request_headers(request.headers());
        headers::add_client(&mut headers, client, host, identity);
        Ok(Self { method, target, headers, body })
    }

    /// Limits the time for which the node lets this poll wait.
    pub(super) fn limit_poll(&mut self, limit: Duration) {
        let limit = HeaderValue::from(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX));
        self.headers.insert(POLL_LIMIT, limit);
    }

    /// Whether the request can be sent twice. A poll of a session consumes packets of its node, so it cannot.
    pub(super) fn is_repeatable(&self) -> bool {
        let query = self.target.split_once('?').map_or("", |(_, query)| query);
        self.method == Method::GET && !(self.target.starts_with(SOCKETS) && names_session(query))
    }

    /// The request to `backend`.
    pub(super) fn to(&self, backend: &Backend) -> Result<Request<Full<Bytes>>, Error> {
        let invalid = Error::Path("the request cannot be passed on");
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = backend.uri(&self.target).ok_or(invalid)?;
        *request.headers_mut() = self.headers.clone();
        Ok(request)
    }
}
