//! The client against a real presence service over TCP: restarts of the service, a service that does not answer, and many users.

use std::{
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use proto::Username;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{Presence, Timeouts};
use crate::broker::Signal;

/// A running presence service.
struct Service {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    ended: oneshot::Receiver<Result<(), ::presence::Error>>,
}

/// The presence client of a chat node.
struct Node {
    presence: Presence,
    signals: mpsc::Receiver<Signal>,
}

impl Service {
    fn start(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let config = ::presence::Config { presence_flush: Duration::from_millis(10), ..Default::default() };
        let ended = ::presence::start(listener, config, async {
            let _ = stopped.await;
        });
        Self { address, stop, ended }
    }

    fn on_free_port() -> Self {
        Self::start(([127, 0, 0, 1], 0).into())
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        timeout(Duration::from_secs(20), self.ended)
            .await
            .expect("the service stops in time")
            .unwrap()
            .unwrap();
    }
}

impl Node {
    fn start(name: &str, address: SocketAddr) -> Self {
        let timeouts = Timeouts {
            unknown: Duration::from_secs(1),
            backoff: (Duration::from_millis(10), Duration::from_millis(50)),
            ..Timeouts::default()
        };
        let (sender, signals) = mpsc::channel(16);
        let url = format!("http://{address}");
        let presence = Presence::with_timeouts(&url, name.to_owned(), sender, timeouts).unwrap();
        Self { presence, signals }
    }

    async fn next(&mut self) -> Signal {
        timeout(Duration::from_secs(20), self.signals.recv()).await.expect("a signal in time").unwrap()
    }

    /// Receives signals until exactly these users are online.
    async fn until_online(&mut self, names: &[&str]) {
        while self.presence.online().is_none_or(|online| online != names) {
            self.next().await;
        }
    }

    /// Receives signals until `count` users are online.
    async fn until_online_count(&mut self, count: usize) {
        while self.presence.online().is_none_or(|online| online.len() != count) {
            self.next().await;
        }
    }
}

fn user(name: &str) -> Username {
    name.parse().unwrap()
}

#[actix::test]
async fn a_restarted_service_receives_a_full_snapshot() {
    let service = Service::on_free_port();
    let address = service.address;
    let mut node = Node::start("n1", address);
    node.presence.connected(&user("alice"));
    node.presence.connected(&user("bob"));
    node.until_online(&["alice", "bob"]).await;
    service.stop().await;
    node.presence.disconnected(&user("bob"));
    node.presence.connected(&user("carol"));
    while !matches!(node.next().await, Signal::OnlineUnknown) {}
    assert_eq!(node.presence.online(), None);
    let degradation = node.presence.degradation();
    assert!(degradation.is_some_and(|text| text.contains(&format!("at {address}: "))));
    let _service = Service::start(address);
    let Signal::Online { list, .. } = node.next().await else { panic!("expected a list after the restart") };
    assert_eq!(list.unwrap(), ["alice", "carol"]);
    assert_eq!(node.presence.degradation(), None);
}

#[actix::test]
async fn a_service_that_never_answers_makes_presence_unknown_and_blocks_no_caller() {
    let stuck = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut node = Node::start("n1", stuck.local_addr().unwrap());
    for n in 0..1_000 {
        node.presence.connected(&user(&format!("u{n}")));
    }
    assert!(matches!(node.next().await, Signal::OnlineUnknown));
    assert_eq!(node.presence.online(), None);
}

#[actix::test]
async fn five_thousand_users_of_one_node_are_all_reported() {
    let service = Service::on_free_port();
    let mut node = Node::start("n1", service.address);
    for n in 0..2_500 {
        node.presence.connected(&user(&format!("u{n}")));
    }
    node.until_online_count(2_500).await;
    for n in 2_500..5_000 {
        node.presence.connected(&user(&format!("u{n}")));
    }
    node.until_online_count(5_000).await;
}
