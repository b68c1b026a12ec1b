//! A thousand clients move from long-polling to WebSocket while fifty messages a second flow: each hears every message once
//! and in order, some of it on either transport.

use crate::support::{LoadSenders, TestServer, with_timeout};

const CLIENTS: usize = 1000;
/// How many messages flow; the clients move one after the other during the first three quarters.
const MESSAGES: usize = 400;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_clients_move_to_websocket_under_traffic_and_miss_nothing() {
    let server = TestServer::start().await;
    let users = server.users_for("client", CLIENTS).await;
    let mut senders = LoadSenders::connect(&server).await;
    let clients = LoadSenders::polling_clients(&users, CLIENTS).await;
    let spread = MESSAGES * 3 / 4;
    let upgrading = clients.into_iter().enumerate();
    let upgrading = upgrading.map(|(n, client)| tokio::spawn(client.upgrade_after(1 + n * spread / CLIENTS)));
    let upgrading: Vec<_> = upgrading.collect();

    let all = senders.send_messages(MESSAGES, 100).await;
    let mut on_both = 0;
    for client in upgrading {
        let client = with_timeout("a client to hear the end", client)
            .await
            .expect("clients fail only by an assertion");
        assert_eq!(client.received, all, "lost, doubled or out of order");
        on_both += usize::from(client.polled > 0 && client.polled < all.len());
    }
    // On a busy machine the last ones hear the end before they have moved.
    assert!(on_both >= CLIENTS * 3 / 4, "only {on_both} moved while messages flowed");
}
