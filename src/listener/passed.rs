//! Sockets that systemd opened for this process (socket activation): `LISTEN_FDS`, `LISTEN_PID` and `LISTEN_FDNAMES`. A
//! socket is used by the flag that has its address. The start refuses any other socket, because clients could connect to it and
//! would never be answered.

use std::{
    collections::HashMap,
    ffi::OsString,
    net::{IpAddr, SocketAddr, TcpListener},
};

use listenfd::ListenFd;
use socket2::SockRef;

/// The first passed descriptor.
const FIRST: usize = 3;

/// Maximum number of passed descriptors. The roles have at most five listeners.
const MAX: usize = 64;

/// The passed sockets that are unused, and the descriptors that cannot be used.
#[derive(Debug, Default)]
pub struct Passed {
    sockets: Vec<Socket>,
    /// Why a descriptor cannot be used, each as a sentence.
    faults: Vec<String>,
    /// The process that `LISTEN_PID` names, when it is not this one.
    other_process: Option<u32>,
}

/// A TCP socket that accepts connections.
#[derive(Debug)]
struct Socket {
    listener: TcpListener,
    address: SocketAddr,
    /// Whether it listens on an IPv6 address and also accepts IPv4 connections.
    is_dual: bool,
    /// `FileDescriptorName=` of the unit, for messages.
    name: String,
}

impl Passed {
    /// No sockets.
    pub const EMPTY: Self = Self { sockets: Vec::new(), faults: Vec::new(), other_process: None };

    /// The sockets of this process, from its environment. Values that are not numbers count as absent.
    pub fn read(variables: impl Iterator<Item = (OsString, OsString)>) -> Self {
        let set: HashMap<_, _> = variables
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let number = |name: &str| set.get(name).and_then(|value| value.trim().parse::<u32>().ok());
        let Some(count) = number("LISTEN_FDS").filter(|count| *count > 0) else { return Self::default() };
        if let Some(other) = number("LISTEN_PID").filter(|process| *process != std::process::id()) {
            return Self { other_process: Some(other), ..Self::default() };
        }
        if usize::try_from(count).map_or(true, |count| count > MAX) {
            let fault =
                format!("systemd passes {count} descriptors (LISTEN_FDS), and at most {MAX} are read");
            return Self { faults: vec![fault], ..Self::default() };
        }
        let names = set.get("LISTEN_FDNAMES").map(String::as_str).unwrap_or_default();
        Self::take_all(ListenFd::from_env(), names)
    }

    fn take_all(mut passed: ListenFd, names: &str) -> Self {
        let mut this = Self::default();
        let names: Vec<&str> = names.split(':').collect();
        for index in 0..passed.len() {
            let name = names.get(index).filter(|name| !name.is_empty()).copied().unwrap_or("unknown");
            match Socket::take(&mut passed, index, name) {
                Ok(socket) => match this.sockets.iter().find(|other| other.address == socket.address) {
                    None => this.sockets.push(socket),
                    Some(other) => this.faults.push(format!(
                        "systemd passes {other} and {socket}, two sockets on one address; remove one ListenStream= line"
                    )),
                },
                Err(fault) => this.faults.push(format!(
                    "systemd passes descriptor {} (FileDescriptorName={name}), which is {fault}",
                    FIRST + index
                )),
            }
        }
        this
    }

    /// Removes the socket for a flag with `address`: the one on this address, else one that accepts its connections and no
    /// others.
    pub fn take(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let is_exact = |socket: &Socket| canonical(socket.address) == canonical(address);
        let found = self.sockets.iter().position(is_exact);
        let found = found.or_else(|| self.sockets.iter().position(|socket| socket.covers(address)))?;
        Some(self.sockets.swap_remove(found).listener)
    }

    /// Why the passed sockets cannot all be used. `flags` are the addresses of the process, each with its flag. `None` when
    /// all sockets are used.
    pub fn fault(&self, flags: &[(&str, SocketAddr)]) -> Option<String> {
        let unused = self.sockets.iter().map(|socket| socket.unused(flags));
        let faults: Vec<String> = self.faults.iter().cloned().chain(unused).collect();
        (!faults.is_empty()).then(|| faults.join("; "))
    }

    /// The unused socket because of which `address` can be in use, as text.
    pub fn conflict(&self, address: SocketAddr, flags: &[(&str, SocketAddr)]) -> Option<String> {
        let socket = self.sockets.iter().find(|socket| socket.address.port() == address.port())?;
        Some(socket.unused(flags))
    }

    /// The process for which systemd has passed sockets, when it is not this one.
    pub fn other_process(&self) -> Option<u32> {
        self.other_process
    }
}

impl Socket {
    /// The socket at `index`.
    ///
    /// # Errors
    /// What the descriptor is instead, with a remedy.
    fn take(passed: &mut ListenFd, index: usize, name: &str) -> Result<Self, String> {
        let Ok(Some(listener)) = passed.take_tcp_listener(index) else {
            return Err(other(passed, index).to_owned());
        };
        let socket = SockRef::from(&listener);
        if !socket.is_listener().unwrap_or(false) {
            return Err("a connection; set Accept=no in the .socket unit".to_owned());
        }
        let is_dual = !socket.only_v6().unwrap_or(true);
        let unusable = |error: std::io::Error| format!("not usable: {error}");
        let address = listener.local_addr().map_err(unusable)?;
        listener.set_nonblocking(true).map_err(unusable)?;
        Ok(Self { listener, address, is_dual: address.is_ipv6() && is_dual, name: name.to_owned() })
    }

    /// The text for a socket that no flag uses.
    fn unused(&self, flags: &[(&str, SocketAddr)]) -> String {
        let flags: Vec<String> = flags.iter().map(|(flag, address)| format!("{flag} {address}")).collect();
        format!(
            "systemd passes {self}, and no flag has this address ({}); give one of them the address of ListenStream=, or remove \
             the ListenStream= line",
            flags.join(", ")
        )
    }

    /// Whether the socket accepts the same connections as one on `address`, a whole port of IPv4, and those of IPv6.
    fn covers(&self, address: SocketAddr) -> bool {
        let is_any = |address: SocketAddr| address.ip().is_unspecified();
        self.is_dual && is_any(self.address) && is_any(address) && self.address.port() == address.port()
    }
}

impl std::fmt::Display for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the socket {} (FileDescriptorName={})", self.address, self.name)
    }
}

/// What a descriptor that is no TCP socket is.
fn other(passed: &mut ListenFd, index: usize) -> &'static str {
    if matches!(passed.take_unix_listener(index), Ok(Some(_))) {
        "a Unix socket; ListenStream= needs an address and a port"
    } else if matches!(passed.take_udp_socket(index), Ok(Some(_)))
        || matches!(passed.take_unix_datagram(index), Ok(Some(_)))
    {
        "a datagram socket; use ListenStream= and not ListenDatagram="
    } else {
        "not a stream socket; the .socket unit may have ListenStream= lines only"
    }
}

/// The address, with an IPv4 address that is mapped to IPv6 in the form of IPv4.
fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::new(ip.into(), address.port()),
        IpAddr::V6(_) => address,
    }
}
