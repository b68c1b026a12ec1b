//! Two gateways in front of the same nodes: a session that was opened through one continues through the other.

use futures_util::future::{join, join_all};

use crate::support::{LAST_MESSAGE, LoadClient, TestServer};

#[tokio::test]
async fn sessions_opened_through_one_gateway_poll_and_upgrade_through_the_other() {
    let mut server = TestServer::start_split().await;
    let other = server.system.add_gateway().await;
    let mut bob = server.connected_user("bob").await;
    let mut clients = Vec::new();
    for n in 0..6 {
        let mut client = LoadClient::connect(&server.user(&format!("client{n}")).await).await;
        client.switch_server(other).await;
        clients.push(client);
    }
    let sending = async {
        for n in 0..10 {
            bob.send_message(&format!("message {n}")).await;
        }
        bob.send_message(LAST_MESSAGE).await;
    };
    let (clients, ()) =
        join(join_all(clients.into_iter().map(|client| client.upgrade_after(3))), sending).await;
    for client in clients {
        assert_eq!(client.received, (1..=11).collect::<Vec<u64>>());
        assert!(client.polled >= 3, "nothing was received over long-polling through the other gateway");
    }
}
