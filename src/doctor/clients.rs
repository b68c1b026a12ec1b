//! Settings for clients and proxies in front of the server: trusted proxies that can match, and origins that match the
//! cookie.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Finding;

const ORIGIN: &str = "--allow-origin (GODZILLA_ALLOW_ORIGIN)";

const PROXY: &str = "--trusted-proxy (GODZILLA_TRUSTED_PROXY)";

/// `cookie_secure`: whether the cookie is always marked Secure.
pub fn examine(config: &gateway::Config, cookie_secure: bool) -> Vec<Finding> {
    let mut findings: Vec<_> = examine_proxies(config).into_iter().collect();
    let origins: Vec<String> = config.allow_origin.iter().map(ToString::to_string).collect();
    for origin in &origins {
        findings.extend(examine_origin(origin, config, cookie_secure));
    }
    let is_mixed =
        origins.iter().any(|origin| is_secure(origin)) && origins.iter().any(|origin| !is_secure(origin));
    if is_mixed {
        findings.push(Finding::warning(
            ORIGIN,
            "http and https are mixed: a cookie of one is not sent with the other; serve all pages over https",
        ));
    }
    findings
}

fn examine_proxies(config: &gateway::Config) -> Option<Finding> {
    let listens_at = config.listen.ip();
    if config.trusted_proxy.is_empty() {
        return (!listens_at.is_loopback()).then(|| {
            Finding::warning(
                PROXY,
                format!(
                    "{} is reachable from other machines and no proxy is trusted; name the proxy if one stands in front, \
                     or all clients count as one and pages over https are refused",
                    config.listen
                ),
            )
        });
    }
    let local: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    let is_local = config.trusted_proxy.iter().any(|proxy| local.iter().any(|ip| proxy.contains(*ip)));
    (listens_at.is_loopback() && !is_local).then(|| {
        Finding::error(
            PROXY,
            format!(
                "no trusted proxy can reach the loopback address {}; trust {listens_at} if the proxy runs on this machine, \
                 or listen on an address that the proxy reaches",
                config.listen
            ),
        )
    })
}

fn examine_origin(origin: &str, config: &gateway::Config, cookie_secure: bool) -> Option<Finding> {
    let has_tls = cookie_secure || !config.trusted_proxy.is_empty();
    if cookie_secure && !is_secure(origin) {
        return Some(Finding::error(
            ORIGIN,
            format!(
                "pages of {origin} do not send the cookie, which --cookie-secure keeps to https; serve them over https"
            ),
        ));
    }
    (is_secure(origin) && !has_tls).then(|| {
        Finding::warning(
            ORIGIN,
            format!(
                "pages of {origin} can only connect over https, which needs a proxy with TLS in front; name it by --trusted-proxy"
            ),
        )
    })
}

fn is_secure(origin: &str) -> bool {
    origin.starts_with("https://")
}
