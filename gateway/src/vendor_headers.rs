//! The headers by which products describe a client instead of, or in addition to, `X-Forwarded-*` and `Forwarded`: CDNs,
//! load balancers, ingress controllers and application servers. Pure. [`crate::forwarded`] applies the tables.

use serde_json::Value;

/// The chain that ingress-nginx received, when it replaces `X-Forwarded-For`.
pub(crate) const ORIGINAL_CHAIN: &str = "x-original-forwarded-for";

/// The address of the client with its port, of an IPv6 address without brackets.
pub(crate) const CLOUDFRONT: &str = "cloudfront-viewer-address";

/// Headers with the address of the client. They never determine the address: a proxy that does not process them forwards
/// them from the client, so any client could choose its address.
pub(crate) const ADDRESSES: [&str; 24] = [
    "cf-connecting-ip",
    CLOUDFRONT,
    ORIGINAL_CHAIN,
    "x-envoy-external-address",
    "x-cluster-client-ip",
    "x-vercel-forwarded-for",
    "x-nf-client-connection-ip",
    "do-connecting-ip",
    "incap-client-ip",
    "ali-cdn-real-ip",
    "true-client-ip",
    "fastly-client-ip",
    "fly-client-ip",
    "x-azure-clientip",
    "x-azure-socketip",
    "x-appengine-user-ip",
    "x-appengine-remote-addr",
    "x-client-ip",
    "client-ip",
    "x-sucuri-clientip",
    "x-ms-forwarded-client-ip",
    "x-proxyuser-ip",
    "wl-proxy-client-ip",
    "x-remote-ip",
];

/// Headers whose value is a scheme. CloudFront, Envoy, Traefik, ingress-nginx and AWS write them.
pub(crate) const SCHEMES: [&str; 6] = [
    "x-forwarded-proto",
    "x-forwarded-scheme",
    "x-forwarded-protocol",
    "x-scheme",
    "x-url-scheme",
    "cloudfront-forwarded-proto",
];

/// Headers whose value is `on`, `1`, `true` or `yes` behind TLS. Rails, Microsoft, Fastly and WebLogic name them.
pub(crate) const SWITCHES: [&str; 6] =
    ["x-forwarded-ssl", "front-end-https", "x-forwarded-https", "x-https", "fastly-ssl", "wl-proxy-ssl"];

/// The certificate of the TLS connection. Azure App Service writes it only behind TLS.
pub(crate) const ARR_SSL: &str = "x-arr-ssl";

/// A JSON object with the scheme, of Cloudflare.
pub(crate) const CF_VISITOR: &str = "cf-visitor";

/// Headers whose value is the host that the client requested. Azure writes the second.
pub(crate) const HOSTS: [&str; 2] = ["x-forwarded-host", "x-original-host"];

/// The scheme in a [`CF_VISITOR`] header, such as `{"scheme":"https"}`. `None` when it has no scheme.
pub(crate) fn visitor_scheme(text: &str) -> Option<String> {
    let visitor: Value = serde_json::from_str(text).ok()?;
    Some(visitor.get("scheme")?.as_str()?.to_owned())
}

/// Whether TLS is on according to one of [`SWITCHES`]. `None` for any other value.
pub(crate) fn switch(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "on" | "1" | "true" | "yes" => Some(true),
        "off" | "0" | "false" | "no" => Some(false),
        _ => None,
    }
}

/// How clients get addresses of their own when `header`, one of [`ADDRESSES`], names another client than the headers that
/// are read.
pub(crate) fn remedy(header: &str) -> &'static str {
    match header {
        ORIGINAL_CHAIN => {
            "if a balancer is in front of ingress-nginx, set use-forwarded-headers and proxy-real-ip-cidr in its ConfigMap, and name \
             the balancer's address with --trusted-proxy"
        }
        _ => {
            "name the networks of the CDN or balancer that writes it with --trusted-proxy, and let the proxy pass on its X-Forwarded-For"
        }
    }
}
