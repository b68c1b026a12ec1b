//! Tables of networks.

use super::*;

#[test]
fn a_network_is_an_address_or_a_prefix_within_the_bounds() {
    let within =
        |network: &str, address: &str| network.parse::<Network>().unwrap().contains(address.parse().unwrap());
    assert!(within("10.1.2.3", "10.1.2.3") && !within("10.1.2.3", "10.1.2.4"));
    assert!(within("10.0.0.0/8", "10.255.0.1") && !within("10.0.0.0/8", "11.0.0.1"));
    assert!(within("10.9.9.9/24", "10.9.9.200") && within("10.0.0.0/8", "::ffff:10.0.0.1"));
    assert!(within("fd00::/16", "fd00:1::1") && !within("fd00::/16", "fe80::1"));
    for bad in ["", "x", "10.0.0.1/", "10.0.0.1/33", "::1/129", "10.0.0.1/-1", "10.0.0.1/8/8"] {
        assert!(bad.parse::<Network>().unwrap_err().starts_with("expected"), "{bad}");
    }
    for wide in ["0.0.0.0/0", "10.0.0.0/7", "::/0", "::/15"] {
        assert!(wide.parse::<Network>().unwrap_err().contains("at least"), "{wide}");
    }
}
