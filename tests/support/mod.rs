//! A stage for plays: one running server of the real program and the people who talk through it. Used by every test that
//! needs a server; built on `server` (the process), `person` (HTTP), `socket` (Socket.IO), `raw` (frames no
//! good client sends), `split` (the roles), `puppet` (the official client), `tunnel` (a network that
//! fails), `climber` and `crowd` (a thousand clients).

mod connection;
mod flaky_network;
mod http;
mod load;
mod load_client;
mod official_client;
mod packet;
mod raw;
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
pub use load::LoadSenders;
pub use load_client::{LoadClient, THE_END};
pub use official_client::{Connected, OfficialClient};
pub use raw::{RawSocket, masked};
pub use socket::Socket;
pub use split::{ACCOUNTS, GATEWAY, NODES, PRESENCE};
pub use system::{System, break_polling, free_addresses, program};
pub use user::TestUser;

/// How long a play waits for anything that must happen. Long, because only a failing play waits it out.
pub const TIMEOUT: Duration = Duration::from_secs(20);

/// One server and the addresses its visitors come from.
pub struct TestServer {
    /// The running program.
    pub server: System,
    /// Everybody has an address of their own, so that nobody is limited for another's logins.
    homes: AtomicU16,
}

/// A person with a socket open: what most plays need.
pub struct ConnectedUser {
    /// The person behind the socket.
    pub user: TestUser,
    /// The first tab.
    tab: Socket,
}

impl TestServer {
    /// Starts a server with an empty store.
    pub async fn opens() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts a server with an empty store and more arguments.
    pub async fn start_with(arguments: &[&str]) -> Self {
        Self { server: System::start(arguments).await, homes: AtomicU16::new(1) }
    }

    /// Starts a server with an empty store and this standard error.
    pub async fn start_with_log(log: File, arguments: &[&str]) -> Self {
        let server = System::start_with_log(Some(log), arguments).await;
        Self { server, homes: AtomicU16::new(1) }
    }

    /// Starts a split system on stores of its own.
    pub async fn start_split() -> Self {
        let server = System::start_split(&[], testkit::Stores::start().await).await;
        Self { server, homes: AtomicU16::new(1) }
    }

    /// Starts a split system of another deployment on the stores of this one.
    pub async fn start_beside(&self, deployment: &str) -> Self {
        let stores = self.server.stores.as_ref().expect("a split system");
        Self { server: System::start_beside(stores, deployment).await, homes: AtomicU16::new(10_000) }
    }

    /// Starts a split system of another deployment on the stores and the presence service of this one.
    pub async fn start_within(&self, deployment: &str) -> Self {
        let stores = self.server.stores.as_ref().expect("a split system");
        let server = System::start_within(stores, self.server.presence, deployment).await;
        Self { server, homes: AtomicU16::new(20_000) }
    }

    /// Somebody nobody knows yet, at an address of their own.
    pub fn unregistered_user(&self, name: &str) -> TestUser {
        TestUser::new(name, self.home(), self.server.address)
    }

    /// Somebody who is registered and logged in.
    pub async fn user(&self, name: &str) -> TestUser {
        let mut user = self.unregistered_user(name);
        user.register().await;
        user.log_in().await;
        user
    }

    /// Somebody who is registered already, on another device.
    pub async fn user_on_another_device(&self, name: &str) -> TestUser {
        let mut user = self.unregistered_user(name);
        user.log_in().await;
        user
    }

    /// Somebody who is registered, logged in and connected, and has been welcomed.
    pub async fn connected_user(&self, name: &str) -> ConnectedUser {
        let user = self.user(name).await;
        let tab = user.connect().await;
        ConnectedUser { user, tab }
    }

    /// The official client in somebody's hands, not connected yet.
    pub fn official_client(&self, user: &TestUser) -> OfficialClient {
        let options = serde_json::json!({"transports": ["websocket"]});
        OfficialClient::of(&user.name, self.server.address, user.token(), &options)
    }

    /// An address of the loopback network that nobody else on this stage uses.
    fn home(&self) -> Ipv4Addr {
        let [high, low] = self.homes.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        Ipv4Addr::new(127, 1, high, low)
    }
}

impl ConnectedUser {
    /// A person with a socket that is open already.
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

/// Runs `future` and fails the play with `what` when it takes longer than [`PATIENCE`].
pub async fn with_timeout<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(TIMEOUT, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {TIMEOUT:?} in vain for {what}"),
    }
}
