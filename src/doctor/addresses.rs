//! Addresses: whether the role can listen on its own addresses and reach those of other services.

use std::{
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};

use super::Finding;
use crate::{error::Error, listener::listen};

/// Ports below this one need a privilege.
const PRIVILEGED: u16 = 1_024;

/// Deadline of a connection to another service.
const DEADLINE: Duration = Duration::from_secs(3);

/// Tries to listen on each address, and stops listening at once.
pub fn examine(all: &[(&'static str, SocketAddr)]) -> Vec<Finding> {
    all.iter().filter_map(|(flag, address)| try_to_listen(flag, *address)).collect()
}

/// Like [`examine`]. Also warns when other machines can reach the operators' address.
pub fn examine_admin(address: SocketAddr) -> Vec<Finding> {
    const FLAG: &str = "--admin-listen (GODZILLA_ADMIN_LISTEN)";
    let mut findings = examine(&[(FLAG, address)]);
    if !address.ip().is_loopback() {
        findings.push(Finding::warning(
            FLAG,
            format!("{address} is not a loopback address: every client that reaches it can read the metrics; keep it in a private network"),
        ));
    }
    findings
}

fn try_to_listen(flag: &'static str, address: SocketAddr) -> Option<Finding> {
    let Err(Error::Listen { source, .. }) = listen(flag, &mut address.clone()) else { return None };
    let port = address.port();
    let text = match source.kind() {
        ErrorKind::AddrInUse => format!(
            "{address} is in use by another process; end that process (`ss -ltnp 'sport = :{port}'` shows it) or choose another port"
        ),
        ErrorKind::PermissionDenied if port < PRIVILEGED => format!(
            "port {port} needs a privilege; choose a port from {PRIVILEGED} on, or give the program CAP_NET_BIND_SERVICE"
        ),
        ErrorKind::AddrNotAvailable => format!(
            "{} is not an address of this machine; use one of `ip address`, or {} for all of them",
            address.ip(),
            SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
        ),
        _ => format!("cannot listen on {address}: {source}; choose another address"),
    };
    Some(Finding::error(flag, text))
}

/// Checks that a service accepts connections at `url`, which is `http://HOST:PORT`.
pub async fn examine_service(flag: &str, url: &str) -> Option<Finding> {
    let Some(authority) = url.strip_prefix("http://").map(|rest| rest.trim_end_matches('/')) else {
        return Some(Finding::error(flag, "expected http:// with a host and a port; correct the address"));
    };
    match timeout(DEADLINE, TcpStream::connect(authority)).await {
        Ok(Ok(_)) => None,
        Ok(Err(error)) => Some(Finding::warning(
            flag,
            format!(
                "{authority} does not accept connections: {error}; start the service there or correct the address"
            ),
        )),
        Err(_) => Some(Finding::warning(
            flag,
            format!(
                "{authority} does not answer; look at firewalls and network policies, or correct the address"
            ),
        )),
    }
}

/// Checks that gateways can reach a chat node at the URL that it advertises. `advertised`: the URL, or why the address is refused.
pub async fn examine_advertised(advertised: Result<String, String>) -> Option<Finding> {
    const FLAG: &str = "--advertise (GODZILLA_ADVERTISE)";
    let url = match advertised {
        Ok(url) => url,
        Err(text) => return Some(Finding::error(FLAG, text)),
    };
    let authority = url.trim_start_matches("http://");
    let found = timeout(DEADLINE, lookup_host(authority)).await;
    let addresses: Vec<IpAddr> = match found {
        Ok(Ok(addresses)) => addresses.map(|address| address.ip()).collect(),
        _ => Vec::new(),
    };
    if addresses.is_empty() {
        return Some(Finding::error(
            FLAG,
            format!(
                "the host of {authority} has no address; gateways cannot reach this node: give one that they resolve"
            ),
        ));
    }
    addresses.iter().all(IpAddr::is_loopback).then(|| {
        Finding::warning(
            FLAG,
            format!("{authority} is a loopback address; gateways on other machines cannot reach it: give one that they reach"),
        )
    })
}
