//! Hundreds of clients upgrade from long-polling to WebSocket under fifty messages a second: each receives every message once and in order,
//! over both transports together.

use crate::support::{LoadSenders, PATIENT, TestServer, scale, with_timeout};

/// The number of messages; the clients upgrade one after the other during the first three quarters.
const MESSAGES: usize = 400;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_clients_upgrade_to_websocket_under_load_and_miss_no_message() {
    let clients = scale(200, 1000);
    let server = TestServer::start_with(&PATIENT).await;
    let users = server.users_for("client", clients).await;
    let mut senders = LoadSenders::connect(&server).await;
    let spread = MESSAGES * 3 / 4;
    let upgrading = senders.start_clients(&users, clients, |n| 1 + n * spread / clients).await;

    let all = senders.send_messages(MESSAGES, 100).await;
    let mut on_both = 0;
    for client in upgrading {
        let client = with_timeout("a client to receive the last message", client)
            .await
            .expect("clients fail only by an assertion");
        assert_eq!(client.received, all, "lost, duplicate or out of order");
        on_both += usize::from(client.polled > 0 && client.polled < all.len());
    }
    // On a busy machine the last clients receive the last message before they have upgraded.
    assert!(on_both >= clients * 3 / 4, "only {on_both} upgraded under load");
}
