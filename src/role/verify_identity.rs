//! Verifies the identity of requests in a role behind the gateway. The identity is the one in the gateway's signed
//! header, or no identity when the header signs an anonymous request. Other requests are refused. The gateway's middleware
//! creates the header.

use std::{net::SocketAddr, rc::Rc};

use actix_web::{
    Error, HttpMessage, HttpResponse,
    body::{EitherBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    middleware::Next,
};
use proto::{
    Refusal, Timestamp,
    signature::{HEADER, Key, SignatureError, Target},
};

/// Puts the identity of the caller into the request's extensions. Refuses a request without a valid signature (401) and
/// counts it.
pub async fn verify_identity<B: MessageBody>(
    key: Rc<Key>,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    let mut signed = request.headers().get_all(HEADER);
    let (first, second) = (signed.next(), signed.next());
    let target = Target { method: request.method().as_str(), path: &request.uri().to_string() };
    let text = first.filter(|_| second.is_none()).and_then(|header| header.to_str().ok()).unwrap_or_default();
    let identity = match key.verify(text, target, Timestamp::now()) {
        Ok(identity) => identity,
        Err(why) => {
            metrics::counter!("godzilla_identity_refused_total").increment(1);
            let peer = request.peer_addr();
            return Ok(request.into_response(refusal(why, peer)).map_into_right_body());
        }
    };
    if let Some(identity) = identity {
        request.extensions_mut().insert(identity);
    }
    next.call(request).await.map(ServiceResponse::map_into_left_body)
}

/// The response to a request without a valid signature. An expired signature is an error of the clocks, not of the
/// client.
fn refusal(why: SignatureError, peer: Option<SocketAddr>) -> HttpResponse {
    let peer = peer.map(tracing::field::display);
    if why == SignatureError::Expired {
        tracing::warn!(
            peer,
            "a signature of the gateway has expired or is in the future: the clocks of this machine and the gateway's differ by more \
             than 30 s; synchronise them (NTP)"
        );
        let refusal = Refusal::new(503, "The clocks of the servers differ");
        return HttpResponse::ServiceUnavailable().force_close().json(refusal);
    }
    match why {
        SignatureError::Invalid => tracing::warn!(
            peer,
            "a request is signed with another identity key: give every role the same --secret-file; during a rotation this file \
             must contain both keys"
        ),
        _ => tracing::warn!(
            peer,
            "a request has no signature of a gateway: only gateways may reach this address, and they need the release of this service"
        ),
    }
    HttpResponse::Unauthorized().force_close().json(Refusal::new(401, "Authentication required"))
}
