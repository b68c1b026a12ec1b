//! Two gateways in front of the same nodes: a session that was opened through one continues through the other.

use futures_util::future::{join, join_all};

use crate::support::{LAST_MESSAGE, LoadClient, Request, TestServer, with_timeout};

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

#[tokio::test]
async fn requests_of_one_session_may_alternate_between_gateways() {
    let mut server = TestServer::start_split().await;
    let gateways = [server.system.address, server.system.add_gateway().await];
    let mut bob = server.connected_user("bob").await;
    let alice = server.user("alice").await;
    let request = async |turn: usize, request: Request| {
        request.cookie(alice.token()).send(alice.source, gateways[turn % 2]).await.expect(200).body
    };
    let open = request(0, Request::get("/socket.io/?EIO=4&transport=polling")).await;
    let sid = open.split('"').nth(3).expect("the open packet has an id").to_owned();
    let target = format!("/socket.io/?EIO=4&transport=polling&sid={sid}");
    let post = |body: &str| Request::new("POST", &target).body("text/plain;charset=UTF-8", body);
    let poll = || Request::get(&target);
    request(1, post("40")).await;
    assert!(request(0, poll()).await.starts_with("40{"));
    for turn in 0..8 {
        request(turn, post(&format!(r#"42{turn}["message",{{"text":"turn {turn}"}}]"#))).await;
        let acked = format!(r#"43{turn}[{{"ok":true"#);
        with_timeout("the ack", async { while !request(turn + 1, poll()).await.contains(&acked) {} }).await;
        bob.receive_message(&format!("turn {turn}")).await;
    }
}
