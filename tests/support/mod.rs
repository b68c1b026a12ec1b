//! Test support: starts the real program and acts as its clients. Used by every test that needs a server. Modules: `system` (the
//! processes), `split` (the roles), `user` (HTTP), `socket` (Socket.IO), `connection` (the WebSocket), `raw` (frames that no
//! conformant client sends), `room_state` (what a client holds of a room), `official_client` (Node), `flaky_network` (a forwarder that stops), `load` and `load_client` (a
//! thousand clients).

mod connection;
mod flaky_network;
mod http;
mod load;
mod load_client;
mod official_client;
mod packet;
pub mod programs;
mod raw;
mod room_state;
mod socket;
mod split;
mod system;
mod user;

use std::{
    fs::File,
    net::Ipv4Addr,
    ops::{Deref, DerefMut},
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

pub use connection::{ConnectFailure, Handshake};
pub use flaky_network::FlakyNetwork;
pub use http::{Request, Response, connect};
pub use load::{LoadSenders, PATIENT, Progress};
pub use load_client::{LAST_MESSAGE, LoadClient};
pub use official_client::{Connected, OfficialClient};
pub use raw::{RawSocket, masked};
pub use room_state::RoomState;
pub use socket::Socket;
pub use split::{ACCOUNTS, GATEWAY, NODES, PRESENCE};
pub use system::{System, free_addresses, program};
pub use user::TestUser;

/// Time limit of every wait. It is long because only a failing test reaches it.
pub const TIMEOUT: Duration = Duration::from_secs(20);

/// `few` in `scripts/test`, `many` in `scripts/soak`: rounds of faults, clients of a storm.
pub fn scale(few: usize, many: usize) -> usize {
    if std::env::var_os("GODZILLA_SOAK").is_some() { many } else { few }
}

/// One running server and the source addresses of its clients.
pub struct TestServer {
    /// The running processes.
    pub system: System,
    /// The next source address. Every user has an address of its own, so that the rate limit of logins per address does not apply.
    next_source: AtomicU16,
}

/// A registered user with an open socket.
pub struct ConnectedUser {
    /// The user.
    pub user: TestUser,
    /// The first socket.
    tab: Socket,
}

impl TestServer {
    /// Starts a server with an empty store.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts a server with an empty store and more arguments.
    pub async fn start_with(arguments: &[&str]) -> Self {
        Self { system: System::start(arguments).await, next_source: AtomicU16::new(1) }
    }

    /// Starts a server with an empty store; its standard error goes to `log`.
    pub async fn start_with_log(log: File, arguments: &[&str]) -> Self {
        let system = System::start_with_log(Some(log), arguments).await;
        Self { system, next_source: AtomicU16::new(1) }
    }

    /// Starts a split system on its own stores.
    pub async fn start_split() -> Self {
        let system = System::start_split(&[], testkit::Stores::start().await).await;
        Self { system, next_source: AtomicU16::new(1) }
    }

    /// Starts a system with one process for each set of roles.
    pub async fn start_sets(sets: &[&str]) -> Self {
        Self { system: System::start_sets(sets).await, next_source: AtomicU16::new(1) }
    }

    /// A user that is not registered yet, at a source address of its own.
    pub fn unregistered_user(&self, name: &str) -> TestUser {
        TestUser::new(name, self.new_source(), self.system.address)
    }

    /// A user that is registered and logged in.
    pub async fn user(&self, name: &str) -> TestUser {
        let mut user = self.unregistered_user(name);
        user.register().await;
        user.log_in().await;
        user
    }

    /// A login of a registered user from another device: another source address, another session.
    pub async fn user_on_another_device(&self, name: &str) -> TestUser {
        let mut user = self.unregistered_user(name);
        user.log_in().await;
        user
    }

    /// A user that is registered, logged in and connected, and has received `welcome`.
    pub async fn connected_user(&self, name: &str) -> ConnectedUser {
        let user = self.user(name).await;
        let tab = user.connect().await;
        ConnectedUser { user, tab }
    }

    /// The official client with the session of `user`, not connected yet.
    pub fn official_client(&self, user: &TestUser) -> OfficialClient {
        let options = serde_json::json!({"transports": ["websocket"]});
        OfficialClient::of(&user.name, self.system.address, user.token(), &options)
    }

    /// An address of the loopback network that no other user of this server has.
    fn new_source(&self) -> Ipv4Addr {
        let [high, low] = self.next_source.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        Ipv4Addr::new(127, 1, high, low)
    }
}

impl ConnectedUser {
    /// A user with a socket that is open already.
    pub fn new(user: TestUser, tab: Socket) -> Self {
        Self { user, tab }
    }

    /// Another tab of the same browser.
    pub async fn open_tab(&self) -> Socket {
        self.user.connect().await
    }
}

impl Deref for ConnectedUser {
    type Target = Socket;

    fn deref(&self) -> &Socket {
        &self.tab
    }
}

impl DerefMut for ConnectedUser {
    fn deref_mut(&mut self) -> &mut Socket {
        &mut self.tab
    }
}

/// Runs `future`; panics with `what` when it takes longer than [`TIMEOUT`].
pub async fn with_timeout<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(TIMEOUT, future).await {
        Ok(value) => value,
        Err(_) => panic!("timed out after {TIMEOUT:?}: {what}"),
    }
}
