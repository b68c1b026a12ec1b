//! A stage for plays: one running server of the real program and the people who talk through it. Used by every test that
//! needs a server; built on `server` (the process), `person` (HTTP), `socket` (Socket.IO), `raw` (frames no
//! good client sends), `split` (the roles), `puppet` (the official client), `tunnel` (a network that
//! fails), `climber` and `crowd` (a thousand clients).

mod climber;
mod crowd;
mod http;
mod packet;
mod person;
mod puppet;
mod raw;
mod server;
mod socket;
mod split;
mod tunnel;
mod wire;

use std::{
    fs::File,
    net::Ipv4Addr,
    ops::{Deref, DerefMut},
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

pub use climber::{Climber, THE_END};
pub use crowd::Crowd;
pub use http::{Request, Response, connect};
pub use person::Person;
pub use puppet::{Connected, Puppet};
pub use raw::{RawSocket, masked};
pub use server::{Server, breaks_polling, free_addresses, program};
pub use socket::Socket;
pub use split::{ACCOUNTS, GATEWAY, NODES, PRESENCE};
pub use tunnel::Tunnel;
pub use wire::{Handshake, NotLetIn};

/// How long a play waits for anything that must happen. Long, because only a failing play waits it out.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// One server and the addresses its visitors come from.
pub struct Stage {
    /// The running program.
    pub server: Server,
    /// Everybody has an address of their own, so that nobody is limited for another's logins.
    homes: AtomicU16,
}

/// A person with a socket open: what most plays need.
pub struct Actor {
    /// The person behind the socket.
    pub person: Person,
    /// The first tab.
    tab: Socket,
}

impl Stage {
    /// Starts a server with an empty store.
    pub async fn opens() -> Self {
        Self::opens_with(&[]).await
    }

    /// Starts a server with an empty store and more arguments.
    pub async fn opens_with(arguments: &[&str]) -> Self {
        Self { server: Server::start(arguments).await, homes: AtomicU16::new(1) }
    }

    /// Starts a server with an empty store and this standard error.
    pub async fn opens_with_log(log: File, arguments: &[&str]) -> Self {
        let server = Server::start_with_log(Some(log), arguments).await;
        Self { server, homes: AtomicU16::new(1) }
    }

    /// Starts a split system on stores of its own.
    pub async fn opens_split() -> Self {
        let server = Server::start_split(&[], testkit::Stores::start().await).await;
        Self { server, homes: AtomicU16::new(1) }
    }

    /// Starts a split system of another deployment on the stores of this one.
    pub async fn opens_beside(&self, deployment: &str) -> Self {
        let stores = self.server.stores.as_ref().expect("a split system");
        Self { server: Server::start_beside(stores, deployment).await, homes: AtomicU16::new(10_000) }
    }

    /// Starts a split system of another deployment on the stores and the presence service of this one.
    pub async fn opens_within(&self, deployment: &str) -> Self {
        let stores = self.server.stores.as_ref().expect("a split system");
        let server = Server::start_within(stores, self.server.presence, deployment).await;
        Self { server, homes: AtomicU16::new(20_000) }
    }

    /// Somebody nobody knows yet, at an address of their own.
    pub fn stranger(&self, name: &str) -> Person {
        Person::new(name, self.home(), self.server.address)
    }

    /// Somebody who is registered and logged in.
    pub async fn person(&self, name: &str) -> Person {
        let mut person = self.stranger(name);
        person.registers().await;
        person.logs_in().await;
        person
    }

    /// Somebody who is registered already, on another device.
    pub async fn person_again(&self, name: &str) -> Person {
        let mut person = self.stranger(name);
        person.logs_in().await;
        person
    }

    /// Somebody who is registered, logged in and connected, and has been welcomed.
    pub async fn enters(&self, name: &str) -> Actor {
        let person = self.person(name).await;
        let tab = person.connects().await;
        Actor { person, tab }
    }

    /// The official client in somebody's hands, not connected yet.
    pub fn puppet(&self, person: &Person) -> Puppet {
        let options = serde_json::json!({"transports": ["websocket"]});
        Puppet::of(&person.name, self.server.address, person.token(), &options)
    }

    /// An address of the loopback network that nobody else on this stage uses.
    fn home(&self) -> Ipv4Addr {
        let [high, low] = self.homes.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        Ipv4Addr::new(127, 1, high, low)
    }
}

impl Actor {
    /// A person with a socket that is open already.
    pub fn new(person: Person, tab: Socket) -> Self {
        Self { person, tab }
    }

    /// Another tab of the same browser.
    pub async fn opens_tab(&self) -> Socket {
        self.person.connects().await
    }
}

impl Deref for Actor {
    type Target = Socket;

    fn deref(&self) -> &Socket {
        &self.tab
    }
}

impl DerefMut for Actor {
    fn deref_mut(&mut self) -> &mut Socket {
        &mut self.tab
    }
}

/// Runs `future` and fails the play with `what` when it takes longer than [`PATIENCE`].
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {PATIENCE:?} in vain for {what}"),
    }
}
