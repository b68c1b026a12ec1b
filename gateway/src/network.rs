//! Trusted networks: the value of `--trusted-proxy`. Pure. Used by `client`.

use std::{net::IpAddr, str::FromStr};

use ipnet::IpNet;

/// A trusted address or network, `IP` or `IP/BITS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network(IpNet);

impl Network {
    /// Whether `address` belongs to the network.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

impl FromStr for Network {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        let network: IpNet = network.map_err(|_| "expected an IP address, or one with /BITS behind it")?;
        let shortest = if network.addr().is_ipv4() { 8 } else { 16 };
        if network.prefix_len() < shortest {
            return Err(
                "a trusted network has at least 8 bits (IPv4) or 16 bits (IPv6): any client could name any address",
            );
        }
        Ok(Self(network))
    }
}

#[cfg(test)]
mod tests;
