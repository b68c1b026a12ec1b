//! The banner after the start of the server: its addresses, and first commands to try. Called by [`super`].

use std::net::{IpAddr, SocketAddr};

use super::Config;
use crate::output;

/// Prints the banner on standard output, if that accepts it.
pub fn show(config: &Config, admin: SocketAddr) {
    output::show_if_possible(text(config, admin));
}

fn text(config: &Config, admin: SocketAddr) -> String {
    let listen = config.gateway.listen;
    let data = config.store.data_dir.display();
    let url = short(listen);
    format!(
        "Godzilla {version} is running on http://{browsable} (data in {data}, admin on {admin}).\n\
         Try it in another terminal, with HTTPie:\n  \
         http POST {url}/user/register username=alice password='correct horse'\n  \
         http --session=alice POST {url}/user/login username=alice password='correct horse'\n  \
         http --session=alice POST {url}/rooms/lobby/messages text='hello'\n  \
         http --session=alice {url}/rooms/lobby/messages\n\
         How to connect a Socket.IO client: open http://{browsable}/\n",
        version = env!("CARGO_PKG_VERSION"),
        browsable = browsable(listen),
    )
}

/// The server's address in the notation of HTTPie, as reached from this machine.
fn short(address: SocketAddr) -> String {
    let local = address.ip().is_unspecified() || address.ip() == IpAddr::from([127, 0, 0, 1]);
    if local { format!(":{}", address.port()) } else { format!("http://{address}") }
}

/// The server's address for a browser on this machine.
fn browsable(address: SocketAddr) -> SocketAddr {
    let ip = if address.ip().is_unspecified() { IpAddr::from([127, 0, 0, 1]) } else { address.ip() };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_as_reached_from_this_machine() {
        let shown = |text: &str| {
            let address = text.parse().unwrap();
            (short(address), browsable(address).to_string())
        };
        assert_eq!(shown("127.0.0.1:8080"), (":8080".into(), "127.0.0.1:8080".into()));
        assert_eq!(shown("0.0.0.0:80"), (":80".into(), "127.0.0.1:80".into()));
        assert_eq!(shown("[::]:8080"), (":8080".into(), "127.0.0.1:8080".into()));
        assert_eq!(shown("10.0.0.7:80"), ("http://10.0.0.7:80".into(), "10.0.0.7:80".into()));
    }
}
