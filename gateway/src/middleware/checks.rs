//! The checks that depend on the request only, in order, and the removal of headers that services must not receive.

use actix_web::{
    HttpMessage,
    dev::ServiceRequest,
    http::{Method, header},
};

use super::Admitted;
use crate::{
    Gateway,
    body::{self, Body},
    client::{self, Client},
    error::Error,
    head,
    origin::{self, Allowed, Need, Origin, RequestOrigin, ServerOrigin, Source},
    path,
    routes::{self, Route, Upstream},
    upgrade::{self, Offer},
};

impl Gateway {
    /// Runs every check that depends on the request only, and removes headers that a client must not send.
    pub(super) fn check(&self, request: &mut ServiceRequest) -> Result<Admitted, Error> {
        head::check_method(request.method())?;
        head::check(request.head())?;
        let client = Client::of(request.peer_addr(), request.headers(), &self.config.trusted_proxy);
        let own = ServerOrigin::of(client, request.uri(), request.headers());
        let head = request.head();
        let host = origin::host(&head.uri, &head.headers).and_then(|host| Origin::new(false, host));
        if host.is_none() && head.headers.contains_key(header::HOST) {
            return Err(Error::Path("the Host header names no host"));
        }
        let segments = path::segments(&head.uri, host.as_ref())?;
        let offer = self.warn_of_handshake(request, upgrade::offer(head))?;
        if upgrade::has_lost_offer(head, offer) {
            let lost = Error::Upgrade("transport=websocket without the header Upgrade: websocket");
            _ = self.warn_of_handshake::<()>(request, Err(lost));
        }
        let found = routes::find(head.method.as_str(), &segments);
        let named = RequestOrigin::of(&head.headers);
        let need = found.as_ref().ok().and_then(|(route, _)| need(&head.method, route, offer));
        let source = self.check_origin(request, named.as_ref(), &own, client, need);
        let (route, method) = found?;
        // Health checks of proxies name no client.
        if let (Some(doubt), Some(peer), false) =
            (client.doubt, request.peer_addr(), route.upstream == Upstream::Gateway)
        {
            self.warnings.proxy(peer.ip().to_canonical(), doubt);
        }
        let source = source?;
        if offer == Offer::WebSocket {
            self.warn_of_handshake(request, upgrade::check_handshake(request.head()))?;
        }
        self.sanitize(request, client, named.as_ref(), source, offer);
        // Any site can create a page with an opaque origin, so such a page must not use the cookies of a user. A logout uses no session:
        // it ends those of all tokens in the request, and 200 states that it has.
        if named == Some(RequestOrigin::Opaque) && !route.is_logout() {
            request.headers_mut().remove(header::COOKIE);
        }
        let body = match route.upstream {
            // The socket service reads its own bodies.
            Upstream::Sockets => {
                let is_chunked = request.headers().contains_key(header::TRANSFER_ENCODING);
                match is_chunked && offer != Offer::WebSocket && request.method() == Method::GET {
                    true => Body::Empty,
                    false => Body::None,
                }
            }
            _ => body::check(request.method(), request.headers(), self.config.body_bytes())?,
        };
        Ok(Admitted { route, method, source, offer, client, body })
    }

    /// Checks the request's origin. Logs pages that are refused or whose browser blocks the response.
    fn check_origin(
        &self,
        request: &ServiceRequest,
        named: Option<&RequestOrigin>,
        own: &ServerOrigin,
        client: Client,
        need: Option<Need>,
    ) -> Result<Source, Error> {
        let headers = request.headers();
        let checked = origin::check(headers, named, own, self.allowed(), need.unwrap_or(Need::NotForeign));
        if checked.is_err() && (need.is_some() || named.is_some()) {
            let seen = headers.get(header::ORIGIN).map(header::HeaderValue::as_bytes);
            self.warnings.origin(seen.unwrap_or(b"a page that sends no Origin"), &own.to_string(), client);
        }
        if need.is_some() { checked } else { Ok(checked.unwrap_or(Source::Own)) }
    }

    /// Logs a WebSocket handshake that is refused.
    fn warn_of_handshake<T>(&self, request: &ServiceRequest, checked: Result<T, Error>) -> Result<T, Error> {
        if let (Err(error), Some(peer)) = (&checked, request.peer_addr()) {
            self.warnings.handshake(peer.ip().to_canonical(), &error.to_string());
        }
        checked
    }

    /// Removes what services must not receive, and stores the client in the request's extensions.
    fn sanitize(
        &self,
        request: &mut ServiceRequest,
        mut client: Client,
        named: Option<&RequestOrigin>,
        source: Source,
        offer: Offer,
    ) {
        // The origin of the page shows the client's scheme when the proxies do not state it.
        if let (None, Some(RequestOrigin::Page(origin)), Source::Own) = (client.https, named, source) {
            client.is_secure = origin.is_https();
        }
        client::replace(request.headers_mut(), client);
        match offer {
            Offer::WebSocket => upgrade::normalize(request.headers_mut()),
            Offer::Ignored { .. } => upgrade::remove(request.headers_mut()),
        }
        request.extensions_mut().insert(client);
    }

    pub(super) fn allowed(&self) -> Allowed<'_> {
        Allowed { listed: &self.config.allow_origin, opaque: self.config.allow_opaque_origin }
    }
}

/// How certain the origin of a request must be. `None` for requests that only read.
fn need(method: &Method, route: &Route, offer: Offer) -> Option<Need> {
    let changes = matches!(*method, Method::POST | Method::PUT | Method::PATCH | Method::DELETE);
    match route.upstream {
        _ if changes || offer == Offer::WebSocket => Some(Need::Named),
        Upstream::Sockets => Some(Need::NotForeign),
        _ => None,
    }
}
