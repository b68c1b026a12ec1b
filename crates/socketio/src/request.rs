//! The heads of a session's HTTP requests, for applications that need the headers of more than the first one.
//! Created by the transports, kept by the connection.

use std::{net::SocketAddr, sync::Arc};

use actix_web::{
    HttpRequest,
    http::{Method, Uri, header::HeaderMap},
};

use crate::Config;

/// The head of one HTTP request: everything but its body. Kept if [`Config::request_heads`] is set.
#[derive(Debug, Clone)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// The path and the query.
    pub uri: Uri,
    /// The headers.
    pub headers: HeaderMap,
    /// The address of the TCP peer: of the client, or of a proxy.
    pub peer: Option<SocketAddr>,
}

impl RequestHead {
    /// The head of `request`, if the configuration requests it.
    pub(crate) fn of(request: &HttpRequest, config: &Config) -> Option<Arc<Self>> {
        config.request_heads.then(|| {
            Arc::new(Self {
                method: request.method().clone(),
                uri: request.uri().clone(),
                headers: request.headers().clone(),
                peer: request.peer_addr(),
            })
        })
    }
}
