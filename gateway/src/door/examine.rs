//! The checks that need nothing but the request, in their order, and what is left in the request for the services.

use actix_web::{
    HttpMessage,
    dev::ServiceRequest,
    http::{Method, header},
};

use super::Entry;
use crate::{
    Gateway,
    body::{self, Body},
    client::{self, Client, Doubt},
    error::Error,
    head,
    origin::{self, Allowed, Named, Need, Origin, Own, Source},
    path,
    routes::{self, Route, Upstream},
    upgrade::{self, Offer},
};

impl Gateway {
    /// Every check that needs nothing but the request, and the removal of what a client must not send.
    pub(super) fn examine(&self, request: &mut ServiceRequest) -> Result<Entry, Error> {
        head::check_method(request.method())?;
        head::check(request.head())?;
        let client = Client::of(request.peer_addr(), request.headers(), &self.config.trusted_proxy);
        let offer = upgrade::offer(request.head());
        let own = Own::of(client, request.uri(), request.headers());
        let head = request.head();
        let host = origin::host(&head.uri, &head.headers).and_then(|host| Origin::new(false, host));
        if host.is_none() && head.headers.contains_key(header::HOST) {
            return Err(Error::Path("the Host header names no host"));
        }
        let segments = path::segments(&head.uri, host.as_ref())?;
        let offer = offer?;
        let found = routes::find(head.method.as_str(), &segments);
        let named = Named::of(&head.headers);
        let need = found.as_ref().ok().and_then(|(route, _)| need(&head.method, route, offer));
        let source = self.judge(request, named.as_ref(), &own, client, need);
        if let Ok((route, _)) = &found {
            self.report(request, client, route);
        }
        let (route, method) = found?;
        let source = source?;
        self.settle(request, client, named.as_ref(), source, offer);
        let is_body_doubtful = match route.upstream {
            Upstream::Sockets => {
                offer != Offer::WebSocket
                    && request.method() == Method::GET
                    && request.headers().contains_key(header::TRANSFER_ENCODING)
            }
            _ => body::check(request.method(), request.headers(), self.body_limit())? == Body::Doubtful,
        };
        Ok(Entry { route, method, source, offer, is_body_doubtful })
    }

    /// Whether the request's origin may pass. A page that is refused, or that the browser will not let read the answer, is reported.
    fn judge(
        &self,
        request: &ServiceRequest,
        named: Option<&Named>,
        own: &Own,
        client: Client,
        need: Option<Need>,
    ) -> Result<Source, Error> {
        let headers = request.headers();
        let judged = origin::check(headers, named, own, self.allowed(), need.unwrap_or(Need::NotForeign));
        if judged.is_err() && (need.is_some() || named.is_some()) {
            let seen = headers
                .get(header::ORIGIN)
                .map_or(&b"a page that sends no Origin"[..], |seen| seen.as_bytes());
            let is_near = matches!(named, Some(Named::Page(origin)) if own.is_near(origin));
            self.notices.origin(seen, &own.to_string(), client, is_near);
        }
        if need.is_some() { judged } else { Ok(judged.unwrap_or(Source::Own)) }
    }

    /// Reports that clients may be counted under a wrong address. Health checks of proxies name no client.
    fn report(&self, request: &ServiceRequest, client: Client, route: &Route) {
        let Some(peer) = request.peer_addr().filter(|_| route.upstream != Upstream::Own) else { return };
        let relay =
            client.address.zip(client.names).filter(|(hop, named)| self.notices.is_relay(*hop, *named));
        let doubt = client.doubt.or(relay.map(|(hop, _)| Doubt::Unlisted(hop)));
        doubt.into_iter().for_each(|doubt| self.notices.doubt(peer.ip().to_canonical(), doubt));
    }

    /// Leaves in the request only what services may see, and keeps its client with it.
    fn settle(
        &self,
        request: &mut ServiceRequest,
        mut client: Client,
        named: Option<&Named>,
        source: Source,
        offer: Offer,
    ) {
        // The page itself shows which scheme the client uses, where the proxies do not.
        if let (None, Some(Named::Page(origin)), Source::Own) = (client.https, named, source) {
            client.is_secure = origin.is_https();
        }
        client::replace(request.headers_mut(), client);
        if offer != Offer::WebSocket {
            upgrade::remove(request.headers_mut());
        }
        // Any site can make a page of an opaque origin: it must not act with the cookie of a user.
        if named == Some(&Named::Opaque) {
            request.headers_mut().remove(header::COOKIE);
        }
        request.extensions_mut().insert(client);
    }

    pub(super) fn allowed(&self) -> Allowed<'_> {
        Allowed { listed: &self.config.allow_origin, opaque: self.config.allow_opaque_origin }
    }
}

/// How sure of its origin a request must be; none when it only reads.
fn need(method: &Method, route: &Route, offer: Offer) -> Option<Need> {
    let changes = matches!(*method, Method::POST | Method::PUT | Method::PATCH | Method::DELETE);
    match route.upstream {
        _ if changes || offer == Offer::WebSocket => Some(Need::Named),
        Upstream::Sockets => Some(Need::NotForeign),
        _ => None,
    }
}
