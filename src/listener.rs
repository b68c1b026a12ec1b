//! Listening sockets and descriptors, taken before anything is started, so that a port in use is one clear sentence.
//! Called by the roles.

use std::net::{SocketAddr, TcpListener};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

use crate::error::Error;

/// Connections that may wait to be accepted: a room that reconnects at once must not be refused.
const BACKLOG: i32 = 4096;

/// Listens on `address` and puts the port there that the system chose for port 0; the error names `flag`.
pub fn listen(flag: &'static str, address: &mut SocketAddr) -> Result<TcpListener, Error> {
    let failed = |source| Error::Listen { flag, address: *address, source };
    let listener = open(*address).map_err(failed)?;
    *address = listener.local_addr().map_err(failed)?;
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

/// Raises the limit of open files to what the system allows: each connection takes one.
pub fn raise_open_files() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(soft, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map(|()| (soft, hard)));
    match raised {
        Ok((soft, hard)) => tracing::debug!(soft, hard, "raised the limit of open files"),
        Err(error) => tracing::warn!(%error, "cannot raise the limit of open files"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_names_the_flag_that_moves_it() {
        let mut address = "127.0.0.1:0".parse().unwrap();
        let _first = listen("--listen", &mut address).unwrap();
        assert_ne!(address.port(), 0);
        let text = listen("--listen", &mut address.clone()).expect_err("the port is taken").to_string();
        assert!(text.contains("--listen") && text.contains(&address.to_string()), "{text}");
    }
}
