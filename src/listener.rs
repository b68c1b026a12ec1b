//! Listening sockets. They are opened before any part starts, so that a port in use is reported as one error. Called by
//! the roles.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    sync::{
        LazyLock, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use listenfd::ListenFd;
use socket2::{Domain, Socket, Type};

use crate::error::Error;

/// Maximum number of connections that wait to be accepted. All members of a room can reconnect at once and must not be
/// refused.
const BACKLOG: i32 = 4096;

/// TCP sockets that systemd opened for this process (socket activation, `LISTEN_FDS`) and that are unused.
static PASSED: LazyLock<Mutex<Vec<TcpListener>>> = LazyLock::new(|| {
    let mut passed = ListenFd::from_env();
    let sockets = (0..passed.len()).filter_map(|index| passed.take_tcp_listener(index).ok().flatten());
    Mutex::new(sockets.collect())
});

/// Whether a socket of systemd is used.
static USED: AtomicBool = AtomicBool::new(false);

/// Listens on `address`. Replaces port 0 in it by the port that the system chose. The error names `flag`. A socket that
/// systemd opened on the same address is used instead of a new one.
///
/// # Errors
/// When the process cannot listen on the address.
pub fn listen(flag: &'static str, address: &mut SocketAddr) -> Result<TcpListener, Error> {
    let mut passed = PASSED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(listener) = matching(&mut passed, *address) {
        USED.store(true, Ordering::Relaxed);
        return Ok(listener);
    }
    let failed = |source| Error::Listen { flag, address: *address, source };
    let listener = open(*address).map_err(failed)?;
    *address = listener.local_addr().map_err(failed)?;
    Ok(listener)
}

/// Refuses sockets of systemd when all are unused. Call it after the process has opened all its listeners.
///
/// # Errors
/// When systemd passed sockets, and no flag has the address of one.
pub fn check_passed() -> Result<(), Error> {
    let passed = PASSED.lock().unwrap_or_else(PoisonError::into_inner);
    let unused = passed.first().and_then(|socket| socket.local_addr().ok());
    match unused.filter(|_| !USED.load(Ordering::Relaxed)) {
        None => Ok(()),
        Some(address) => Err(Error::Config(format!(
            "systemd passes a socket on {address}, and no flag has this address: give --listen (GODZILLA_LISTEN) the address of \
             ListenStream="
        ))),
    }
}

/// Removes the socket on `address` from `passed`.
fn matching(passed: &mut Vec<TcpListener>, address: SocketAddr) -> Option<TcpListener> {
    let is_on = |socket: &TcpListener| socket.local_addr().is_ok_and(|local| local == address);
    let found = passed.iter().position(is_on).map(|index| passed.swap_remove(index));
    found.filter(|socket| socket.set_nonblocking(true).is_ok())
}

fn open(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// The address at which this machine reaches a server that listens on `address`.
pub fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_of_a_port_in_use_names_its_flag() {
        let mut address = "127.0.0.1:0".parse().unwrap();
        let _first = listen("--listen", &mut address).unwrap();
        assert_ne!(address.port(), 0);
        let text = listen("--listen", &mut address.clone()).expect_err("the port is taken").to_string();
        assert!(text.contains("--listen") && text.contains(&address.to_string()), "{text}");
    }

    #[test]
    fn unspecified_addresses_are_replaced_by_loopback_addresses() {
        let at = |text: &str| reachable(text.parse().unwrap()).to_string();
        assert_eq!(at("0.0.0.0:9100"), "127.0.0.1:9100");
        assert_eq!(at("[::]:9100"), "[::1]:9100");
        assert_eq!(at("10.0.0.1:9100"), "10.0.0.1:9100");
    }
}
