//! Listening sockets. They are opened before any part starts, so that a port in use is reported as one error. Sockets that
//! systemd passes are used instead of new ones ([`passed`]). Called by the roles.

mod passed;

use std::{
    ffi::OsString,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    sync::{Mutex, PoisonError},
};

use socket2::{Domain, Socket, Type};

use self::passed::Passed;
use crate::error::Error;

/// Maximum number of connections that wait to be accepted. All members of a room can reconnect at once and must not be
/// refused.
const BACKLOG: i32 = 4096;

/// The sockets of systemd, and the addresses of this process.
static SOCKETS: Mutex<Sockets> = Mutex::new(Sockets { passed: Passed::EMPTY, flags: Vec::new() });

struct Sockets {
    passed: Passed,
    /// The addresses on which the process listens, each with its flag.
    flags: Vec<(&'static str, SocketAddr)>,
}

/// Takes the sockets that systemd passed to this process with `variables`. Call it once, before the roles listen.
pub fn accept_passed(variables: impl Iterator<Item = (OsString, OsString)>) {
    SOCKETS.lock().unwrap_or_else(PoisonError::into_inner).passed = Passed::read(variables);
}

/// Listens on `address`. Replaces port 0 in it by the port that the system chose. The error names `flag`. A socket that
/// systemd opened on the same address is used instead of a new one.
///
/// # Errors
/// When the process cannot listen on the address. The error names a socket of systemd that can be the cause.
pub fn listen(flag: &'static str, address: &mut SocketAddr) -> Result<TcpListener, Error> {
    let mut sockets = SOCKETS.lock().unwrap_or_else(PoisonError::into_inner);
    sockets.flags.push((flag, *address));
    if let Some(listener) = sockets.passed.take(*address) {
        return Ok(listener);
    }
    let failed = |source| match sockets.passed.conflict(*address, &sockets.flags) {
        Some(fault) => Error::Config(fault),
        None => Error::Listen { flag, address: *address, source },
    };
    let listener = open(*address).map_err(failed)?;
    let bound = listener.local_addr();
    *address = bound.map_err(|source| Error::Listen { flag, address: *address, source })?;
    Ok(listener)
}

/// Refuses passed sockets that no flag uses. Warns about sockets for another process. Call it after the process has opened
/// all its listeners.
///
/// # Errors
/// When systemd passed a socket that has the address of no flag, or a descriptor that is no listening TCP socket.
pub fn check_passed() -> Result<(), Error> {
    let sockets = SOCKETS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(process) = sockets.passed.other_process() {
        tracing::warn!(
            process,
            "sockets of systemd are not used: LISTEN_PID is the id of another process; a shell script must start this program with exec"
        );
    }
    sockets.passed.fault(&sockets.flags).map_or(Ok(()), |fault| Err(Error::Config(fault)))
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
