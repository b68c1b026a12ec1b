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
    client::{self, Client, ForwardingIssue},
    error::Error,
    handshake,
    handshake_issue::HandshakeIssue,
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
        let offer = upgrade::offer(request.head());
        let own = ServerOrigin::of(client, request.uri(), request.headers());
        let head = request.head();
        let host = origin::host(&head.uri, &head.headers).and_then(|host| Origin::new(false, host));
        if host.is_none() && head.headers.contains_key(header::HOST) {
            return Err(Error::Path("the Host header names no host"));
        }
        let segments = path::segments(&head.uri, host.as_ref())?;
        let issue = match offer {
            Ok(Offer::WebSocket) => None,
            Ok(Offer::Ignored { .. }) => handshake::missing_upgrade(head),
            Err(issue) => Some(issue),
        };
        issue.into_iter().for_each(|issue| self.report_handshake(request, client, issue));
        let offer = offer.map_err(Error::Upgrade)?;
        let found = routes::find(head.method.as_str(), &segments);
        let named = RequestOrigin::of(&head.headers);
        let need = found.as_ref().ok().and_then(|(route, _)| need(&head.method, route, offer));
        let source = self.check_origin(request, named.as_ref(), &own, client, need);
        if let Ok((route, _)) = &found {
            self.report_forwarding(request, client, route);
        }
        let (route, method) = found?;
        let source = source?;
        if offer == Offer::WebSocket {
            handshake::check(request.head()).map_err(|issue| {
                self.report_handshake(request, client, issue);
                Error::Upgrade(issue)
            })?;
        }
        self.sanitize(request, client, named.as_ref(), source, offer);
        // Any site can create a page with an opaque origin, so such a page must not use the cookies of a user. A logout uses no session:
        // it ends those of all tokens in the request, and 200 states that it has.
        if named == Some(RequestOrigin::Opaque) && !route.is_logout() {
            request.headers_mut().remove(header::COOKIE);
        }
        let is_body_undetermined = match route.upstream {
            Upstream::Sockets => {
                offer != Offer::WebSocket
                    && request.method() == Method::GET
                    && request.headers().contains_key(header::TRANSFER_ENCODING)
            }
            _ => body::check(request.method(), request.headers(), self.body_limit())? == Body::Undetermined,
        };
        Ok(Admitted { route, method, source, offer, issue, is_body_undetermined })
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
            let seen = headers
                .get(header::ORIGIN)
                .map_or(&b"a page that sends no Origin"[..], |seen| seen.as_bytes());
            let is_near = matches!(named, Some(RequestOrigin::Page(origin)) if own.is_near(origin));
            self.warnings.origin(seen, &own.to_string(), client, is_near);
        }
        if need.is_some() { checked } else { Ok(checked.unwrap_or(Source::Own)) }
    }

    /// Warns that clients may be counted under a wrong address. Health checks of proxies contain no client address, so the
    /// gateway's own pages are exempt.
    fn report_forwarding(&self, request: &ServiceRequest, client: Client, route: &Route) {
        let Some(peer) = request.peer_addr().filter(|_| route.upstream != Upstream::Gateway) else { return };
        let relay =
            client.address.zip(client.preceding).filter(|(hop, named)| self.warnings.is_relay(*hop, *named));
        let issue = client.issue.or(relay.map(|(hop, _)| ForwardingIssue::Unlisted(hop)));
        issue.into_iter().for_each(|issue| self.warnings.forwarding(peer.ip().to_canonical(), issue));
    }

    /// Warns that a WebSocket handshake is damaged.
    fn report_handshake(&self, request: &ServiceRequest, client: Client, issue: HandshakeIssue) {
        let peer = request.peer_addr().into_iter();
        peer.for_each(|peer| self.warnings.handshake(peer.ip().to_canonical(), issue, client));
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
