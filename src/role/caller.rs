//! Who calls, in a role that stands behind the gateway in another process: whom the gateway's signed header names, and nobody
//! without one. The counterpart of the gateway's door.

use std::rc::Rc;

use actix_web::{
    Error, HttpMessage,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    middleware::Next,
};
use proto::{
    Timestamp,
    signature::{HEADER, Key, Target},
};

/// Puts the caller's identity where services look for it. A header that proves nothing is as good as none, but counted.
pub async fn identify<B: MessageBody>(
    key: Rc<Key>,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    let mut signed = request.headers().get_all(HEADER);
    let (first, second) = (signed.next().cloned(), signed.next().cloned());
    if let Some(header) = first {
        let target = Target { method: request.method().as_str(), path: &request.uri().to_string() };
        let text = header.to_str().unwrap_or_default();
        match key.verify(text, target, Timestamp::now()) {
            Ok(identity) if second.is_none() => _ = request.extensions_mut().insert(identity),
            _ => {
                metrics::counter!("godzilla_identity_refused_total").increment(1);
                tracing::warn!("a request with an identity that proves nothing");
            }
        }
    }
    next.call(request).await
}
