//! A thousand clients move from long-polling to WebSocket while fifty messages a second flow: each hears every message once
//! and in order, some of it on either transport.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use serde_json::json;

use crate::stage::{Climber, Person, Socket, Stage, THE_END, soon};

const CLIENTS: usize = 1000;
/// As many as one user may have.
const PER_USER: usize = 20;
const SPEAKERS: usize = 10;
/// How many messages flow, at fifty a second; the clients move one after the other during the first three quarters.
const MESSAGES: usize = 400;
const PAUSE: Duration = Duration::from_millis(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_clients_move_to_websocket_under_traffic_and_miss_nothing() {
    let stage = Stage::opens().await;
    let mut people = Vec::new();
    for n in 0..CLIENTS / PER_USER {
        people.push(stage.person(&format!("client{n}")).await);
    }
    let mut speakers = Vec::new();
    for n in 0..SPEAKERS {
        speakers.push(stage.person(&format!("speaker{n}")).await.connects().await);
    }
    let connecting = (0..CLIENTS).map(|n| Climber::connects(&people[n % people.len()]));
    let climbers: Vec<Climber> = stream::iter(connecting).buffer_unordered(32).collect().await;

    let spread = MESSAGES * 3 / 4;
    let climbing = climbers
        .into_iter()
        .enumerate()
        .map(|(n, climber)| tokio::spawn(climber.climbs_after(1 + n * spread / CLIENTS)));
    let climbing: Vec<_> = climbing.collect();
    talk(&mut speakers, &people[0]).await;

    let all: Vec<u64> = (1..=MESSAGES as u64 + 1).collect();
    let mut on_both = 0;
    for climber in climbing {
        let climber =
            soon("a client to hear the end", climber).await.expect("clients fail only by an assertion");
        assert_eq!(climber.heard, all, "lost, doubled or out of order");
        on_both += usize::from(climber.polled > 0 && climber.polled < all.len());
    }
    assert_eq!(on_both, CLIENTS, "the others did not move while messages flowed");
}

/// Fifty messages a second, each acked, then one more that says it is the last.
async fn talk(speakers: &mut [Socket], last: &Person) {
    let mut clock = tokio::time::interval(PAUSE);
    let mut asked = Vec::new();
    for n in 0..MESSAGES {
        clock.tick().await;
        let speaker = n % speakers.len();
        asked.push((speaker, speakers[speaker].request("message", &json!({"text": format!("number {n}")}))));
    }
    for (speaker, id) in asked {
        let ack = speakers[speaker].answer(id).await;
        assert_eq!(ack["ok"], true, "{ack}");
    }
    last.posts("/rooms/lobby/messages", &json!({"text": THE_END})).await.expect(201);
}
