//! Listening sockets. They are opened before any part starts, so that a port in use is reported as one error. Called by
//! the roles.

use std::{
    net::{SocketAddr, TcpListener},
    sync::{LazyLock, Mutex, PoisonError},
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

/// Listens on `address`. Replaces port 0 in it by the port that the system chose. The error names `flag`. A socket that
/// systemd opened on the same address is used instead of a new one.
///
/// # Errors
/// When the process cannot listen on the address, and when systemd passed sockets and no flag has the address of one.
pub fn listen(flag: &'static str, address: &mut SocketAddr) -> Result<TcpListener, Error> {
    let mut passed = PASSED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(listener) = matching(&mut passed, *address) {
        return Ok(listener);
    }
    // Every role calls this with its `--listen` first.
    if flag == "--listen" && !passed.is_empty() {
        return Err(Error::Config(format!(
            "systemd passes a socket, and none is for {address}: give --listen (GODZILLA_LISTEN) the address of ListenStream="
        )));
    }
    let failed = |source| Error::Listen { flag, address: *address, source };
    let listener = open(*address).map_err(failed)?;
    *address = listener.local_addr().map_err(failed)?;
    Ok(listener)
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
}
