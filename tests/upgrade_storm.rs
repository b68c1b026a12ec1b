//! A thousand clients move from long-polling to WebSocket while fifty messages a second flow: each hears every message once
//! and in order, some of it on either transport.

use crate::stage::{Crowd, Stage, soon};

const CLIENTS: usize = 1000;
/// How many messages flow; the clients move one after the other during the first three quarters.
const MESSAGES: usize = 400;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_clients_move_to_websocket_under_traffic_and_miss_nothing() {
    let stage = Stage::opens().await;
    let people = stage.people_for("client", CLIENTS).await;
    let mut crowd = Crowd::gathers(&stage).await;
    let climbers = Crowd::climbers(&people, CLIENTS).await;
    let spread = MESSAGES * 3 / 4;
    let climbing = climbers.into_iter().enumerate();
    let climbing = climbing.map(|(n, climber)| tokio::spawn(climber.climbs_after(1 + n * spread / CLIENTS)));
    let climbing: Vec<_> = climbing.collect();

    let all = crowd.talks(MESSAGES, 100).await;
    let mut on_both = 0;
    for climber in climbing {
        let climber =
            soon("a client to hear the end", climber).await.expect("clients fail only by an assertion");
        assert_eq!(climber.heard, all, "lost, doubled or out of order");
        on_both += usize::from(climber.polled > 0 && climber.polled < all.len());
    }
    // On a busy machine the last ones hear the end before they have moved.
    assert!(on_both >= CLIENTS * 3 / 4, "only {on_both} moved while messages flowed");
}
