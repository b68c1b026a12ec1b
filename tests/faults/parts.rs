//! Parts of the roles are made to panic while people talk. Needs a debug build, which alone has the faults.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::{ACCOUNTS, BETWEEN, GATEWAY, NODES, PRESENCE, people::People};
use crate::stage::PATIENCE;

/// A process, one of its parts, and whether the process ends with the part; else the part works again.
const PARTS: [(usize, &str, bool); 20] = [
    (GATEWAY, "session watch", false),
    (GATEWAY, "known sessions", false),
    (GATEWAY, "table of nodes", false),
    (GATEWAY, "upkeep", false),
    (GATEWAY, "admin server", true),
    (ACCOUNTS, "session keeper", false),
    (ACCOUNTS, "session watch", false),
    (ACCOUNTS, "admin server", true),
    (NODES[0], "log follower", true),
    (NODES[0], "log changes", true),
    (NODES[0], "log retention", false),
    (NODES[0], "log", true),
    (NODES[1], "rooms", true),
    (NODES[1], "shard", true),
    (NODES[1], "presence relay", true),
    (NODES[1], "presence client", false),
    (NODES[1], "revocation", false),
    (NODES[1], "announcement", false),
    (PRESENCE, "roster", true),
    (PRESENCE, "presence server", true),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_part_of_a_role_that_panics_works_again_or_ends_its_process() {
    let (mut stage, people) = People::gather().await;
    for (process, part, ends) in PARTS {
        people.talk(BETWEEN).await;
        if !stage.server.injects(process, part).await {
            break;
        }
        let spent = async {
            while !stage.server.has_panicked(process, part).await {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, spent).await.unwrap_or_else(|_| panic!("{part}: the fault was not reached"));
        if ends {
            let status = stage.server.process_ends(process).await;
            assert_eq!(status.code(), Some(1), "{part}: {}", stage.server.log());
            stage.server.process_returns(process).await;
        }
        stage.server.is_ready().await;
    }
    people.talk(BETWEEN).await;
    people.agree(&stage).await;
}
