//! Listening sockets. They are opened before any part starts, so that a port in use is reported as one error. Called by the roles.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use socket2::{Domain, Socket, Type};

use crate::error::Error;

/// Maximum number of connections that wait to be accepted. All members of a room can reconnect at once and must not be
/// refused.
const BACKLOG: i32 = 4096;

/// Listens on `address`. Replaces port 0 in it by the port that the system chose.
///
/// # Errors
/// When the process cannot listen on the address. The error names `flag`.
pub fn listen(flag: &'static str, address: &mut SocketAddr) -> Result<TcpListener, Error> {
    let listening = open(*address).and_then(|listener| Ok((listener.local_addr()?, listener)));
    let (bound, listener) = listening.map_err(|source| Error::Listen { flag, address: *address, source })?;
    *address = bound;
    Ok(listener)
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
