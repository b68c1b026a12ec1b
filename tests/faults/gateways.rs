//! Two gateways before the same nodes: what was opened through one goes on through the other.

use futures_util::future::{join, join_all};

use crate::stage::{Climber, Request, Stage, THE_END, soon};

#[tokio::test]
async fn clients_that_came_through_one_gateway_poll_and_upgrade_through_the_other() {
    let mut stage = Stage::opens_split().await;
    let other = stage.server.adds_gateway().await;
    let mut bob = stage.enters("bob").await;
    let mut climbers = Vec::new();
    for n in 0..6 {
        let mut climber = Climber::connects(&stage.person(&format!("climber{n}")).await).await;
        climber.goes_through(other).await;
        climbers.push(climber);
    }
    let talk = async {
        for n in 0..10 {
            bob.says(&format!("message {n}")).await;
        }
        bob.says(THE_END).await;
    };
    let (climbers, ()) =
        join(join_all(climbers.into_iter().map(|climber| climber.climbs_after(3))), talk).await;
    for climber in climbers {
        assert_eq!(climber.heard, (1..=11).collect::<Vec<u64>>());
        assert!(climber.polled >= 3, "nothing came over long-polling through the other gateway");
    }
}

#[tokio::test]
async fn the_requests_of_one_session_may_come_through_either_gateway_in_turn() {
    let mut stage = Stage::opens_split().await;
    let doors = [stage.server.address, stage.server.adds_gateway().await];
    let mut bob = stage.enters("bob").await;
    let alice = stage.person("alice").await;
    let ask = async |turn: usize, request: Request| {
        request.cookie(alice.token()).send(alice.home, doors[turn % 2]).await.expect(200).body
    };
    let open = ask(0, Request::get("/socket.io/?EIO=4&transport=polling")).await;
    let sid = open.split('"').nth(3).expect("the open packet has an id").to_owned();
    let target = format!("/socket.io/?EIO=4&transport=polling&sid={sid}");
    let post = |body: &str| Request::new("POST", &target).body("text/plain;charset=UTF-8", body);
    let poll = || Request::get(&target);
    ask(1, post("40")).await;
    assert!(ask(0, poll()).await.starts_with("40{"));
    for turn in 0..8 {
        ask(turn, post(&format!(r#"42{turn}["message",{{"text":"turn {turn}"}}]"#))).await;
        let acked = format!(r#"43{turn}[{{"ok":true"#);
        soon("the ack", async { while !ask(turn + 1, poll()).await.contains(&acked) {} }).await;
        bob.hears(&format!("turn {turn}")).await;
    }
}
