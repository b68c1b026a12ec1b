//! The client against a real presence service over TCP: updates from other nodes, restarts of the service, and failed nodes.

use std::{
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use proto::{RoomName, Username};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{Presence, PresenceUpdate, Timeouts};

/// A running presence service.
struct Service {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    ended: oneshot::Receiver<Result<(), ::presence::Error>>,
}

/// The presence client of a chat node.
struct Node {
    presence: Presence,
    updates: mpsc::Receiver<PresenceUpdate>,
}

impl Service {
    fn start(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let config = ::presence::Config { presence_flush: Duration::from_millis(10), ..Default::default() };
        let (_, ended) = ::presence::start(listener, config, async {
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
            min_backoff: Duration::from_millis(10),
            max_backoff: Duration::from_millis(50),
            ..Timeouts::default()
        };
        let (updates, receiver) = mpsc::channel(16);
        let url = format!("http://{address}");
        let presence = Presence::with_timeouts(
            &url,
            super::Node { name: name.into(), deployment: String::new(), database: None },
            updates,
            timeouts,
        )
        .unwrap();
        Self { presence, updates: receiver }
    }

    async fn next(&mut self) -> PresenceUpdate {
        timeout(Duration::from_secs(20), self.updates.recv()).await.expect("an update in time").unwrap()
    }

    /// Receives updates until exactly these users are online.
    async fn until_online(&mut self, names: &[&str]) {
        while self.presence.online().is_none_or(|online| online != names) {
            self.next().await;
        }
    }

    /// Receives updates until `count` users are online.
    async fn until_online_count(&mut self, count: usize) {
        while self.presence.online().is_none_or(|online| online.len() != count) {
            self.next().await;
        }
    }

    /// Receives updates until exactly these users type in the lobby.
    async fn until_typing(&mut self, names: &[&str]) {
        loop {
            if let PresenceUpdate::Typing(typing) = self.next().await
                && typing.room == "lobby"
                && typing.users == names
            {
                return;
            }
        }
    }
}

fn user(name: &str) -> Username {
    name.parse().unwrap()
}

#[actix::test]
async fn nodes_receive_each_others_online_and_typing_users() {
    let service = Service::on_free_port();
    let mut first = Node::start("n1", service.address);
    first.presence.connected(&user("alice"));
    first.until_online(&["alice"]).await;
    let mut second = Node::start("n2", service.address);
    second.presence.connected(&user("bob"));
    second.until_online(&["alice", "bob"]).await;
    first.until_online(&["alice", "bob"]).await;
    first.presence.typing(&user("alice"), &RoomName::lobby(), true);
    second.until_typing(&["alice"]).await;
    assert_eq!(second.presence.typing_users(), Some(vec!["alice".to_owned()]));
    first.presence.disconnected(&user("alice"));
    second.until_typing(&[]).await;
    second.until_online(&["bob"]).await;
}

#[actix::test]
async fn a_user_with_two_connections_on_a_node_is_online_until_the_second_ends() {
    let service = Service::on_free_port();
    let mut node = Node::start("n1", service.address);
    node.presence.connected(&user("alice"));
    node.presence.connected(&user("alice"));
    node.until_online(&["alice"]).await;
    node.presence.disconnected(&user("alice"));
    node.presence.connected(&user("bob"));
    node.until_online(&["alice", "bob"]).await;
    node.presence.disconnected(&user("alice"));
    node.until_online(&["bob"]).await;
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
    while node.next().await != PresenceUpdate::Unknown {}
    assert_eq!((node.presence.online(), node.presence.typing_users()), (None, None));
    let _service = Service::start(address);
    let PresenceUpdate::Online(presence) = node.next().await else {
        panic!("expected a list after the restart")
    };
    assert_eq!(presence.online, ["alice", "carol"]);
    assert!(node.presence.is_available());
}

#[actix::test]
async fn users_of_a_failed_node_go_offline_and_the_others_stay() {
    let service = Service::on_free_port();
    let mut running = Node::start("n1", service.address);
    running.presence.connected(&user("alice"));
    let failed = Node::start("n2", service.address);
    failed.presence.connected(&user("alice"));
    failed.presence.connected(&user("bob"));
    running.until_online(&["alice", "bob"]).await;
    drop(failed);
    running.until_online(&["alice"]).await;
}

#[actix::test]
async fn a_service_that_never_answers_makes_presence_unknown_and_blocks_no_caller() {
    let stuck = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut node = Node::start("n1", stuck.local_addr().unwrap());
    for n in 0..1_000 {
        node.presence.connected(&user(&format!("u{n}")));
    }
    assert_eq!(node.next().await, PresenceUpdate::Unknown);
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
