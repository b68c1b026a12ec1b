//! The roles of the program: one file per role, each with one `run`.

pub mod accounts;
pub mod chat;
pub mod gateway;
mod new_session_gate;
pub mod presence;
mod presence_thread;
pub mod serve;
mod verify_identity;

use std::time::Duration;

use ::{accounts::Accounts, chat::Chat};
use actix_web::rt::time::interval;
use metrics_exporter_prometheus::PrometheusHandle;

use crate::{
    admin::{Probe, not_ready_unless},
    supervision,
};

/// Probes whether the parts of the chat answer.
fn chat_probe(chat: &Chat) -> Probe {
    let chat = chat.clone();
    Box::new(move || {
        let chat = chat.clone();
        Box::pin(async move { not_ready_unless(chat.is_ready().await) })
    })
}

/// Probes whether the threads that verify and hash passwords take jobs.
fn password_probe(accounts: &Accounts) -> Probe {
    let accounts = accounts.clone();
    Box::new(move || {
        let stalled = accounts.is_stalled().then(|| "has not taken a waiting job for 10 s".to_owned());
        Box::pin(async { stalled })
    })
}

/// Interval of the upkeep.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(30);

/// Runs periodic work while the process lives: the upkeep of the metrics, and that of the role.
async fn upkeep(metrics: PrometheusHandle, also: impl Fn()) {
    let also = &also;
    supervision::restart("upkeep", || async {
        let mut ticks = interval(UPKEEP_INTERVAL);
        loop {
            ticks.tick().await;
            metrics.run_upkeep();
            also();
        }
    })
    .await;
}
