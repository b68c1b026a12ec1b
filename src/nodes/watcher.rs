//! The view of a gateway: reads the table of nodes periodically. While Redis does not answer, the last live nodes count
//! as live.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use gateway::{Backend, Node, Nodes};
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use remote::{Location, NO_ANSWER, Redis, SCRIPTS, Unanswered};

use super::{CLOSED, TABLE_KEY, WRITE_PROBE_KEY, scripts, table};
use crate::supervision;

/// Keeps a copy of the table of nodes up to date until it is dropped.
pub struct Watcher {
    nodes: watch::Receiver<Nodes>,
    refresh: Arc<Notify>,
    table: Redis,
    not_ready_reason: Arc<Mutex<Option<String>>>,
    task: JoinHandle<()>,
}

/// The commands that read the table.
const NEEDED: [&str; 4] = [SCRIPTS[0], SCRIPTS[1], "TIME", "HGETALL"];

/// Interval of the reads.
const INTERVAL: Duration = Duration::from_secs(1);

/// Minimum interval of the reads. A request for a node that is not in the copy triggers an early read. Its name can be
/// valid or invalid.
const MIN_INTERVAL: Duration = Duration::from_millis(50);

/// How long an open node that is missing counts as live. Redis was unavailable and the lease expired meanwhile, or
/// Redis lost its data, and the node needs time to renew.
const GRACE: Duration = Duration::from_secs(5);

impl Watcher {
    /// Watches the table in the Redis at `at`, which may be unavailable. Needs a running runtime.
    ///
    /// # Errors
    /// When the address of Redis is invalid. The text names the flag.
    pub fn start(at: impl Into<Location>) -> Result<Self, String> {
        let table = table(at)?;
        let (sender, nodes) = watch::channel(Nodes::default());
        let not_ready_reason = Arc::new(Mutex::new(Some(NO_ANSWER.to_owned())));
        let refresh = Arc::new(Notify::new());
        let (reason, requested) = (not_ready_reason.clone(), refresh.clone());
        let (sender, asked) = (Arc::new(sender), table.clone());
        let task = tokio::spawn(supervision::restart("table of nodes", move || {
            watch(asked.clone(), sender.clone(), reason.clone(), requested.clone())
        }));
        Ok(Self { nodes, refresh, table, not_ready_reason, task })
    }

    /// The current table, and its changes.
    pub fn nodes(&self) -> watch::Receiver<Nodes> {
        self.nodes.clone()
    }

    /// Notify it to request an early read.
    pub fn refresh(&self) -> Arc<Notify> {
        self.refresh.clone()
    }

    /// Why Redis did not answer the last read, as text that follows its name. `None` when it answered.
    pub async fn not_ready_reason(&self) -> Option<String> {
        let not_ready_reason = lock(&self.not_ready_reason).clone()?;
        // The error of a script does not name the refused command.
        Some(self.table.refusal(&NEEDED).await.unwrap_or(not_ready_reason))
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(not_ready_reason: &Mutex<Option<String>>) -> MutexGuard<'_, Option<String>> {
    not_ready_reason.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn watch(
    table: Redis,
    nodes: Arc<watch::Sender<Nodes>>,
    not_ready_reason: Arc<Mutex<Option<String>>>,
    refresh: Arc<Notify>,
) {
    let (mut missing_since, mut refusal) = (HashMap::new(), String::new());
    loop {
        match live(&table).await {
            Ok((live, refused)) => {
                *lock(&not_ready_reason) = None;
                if refused != refusal {
                    if !refused.is_empty() {
                        tracing::warn!(
                            refused,
                            "writes are refused by Redis: all chat nodes of its table count as live"
                        );
                    }
                    refusal = refused;
                }
                let live = with_grace(&nodes.borrow(), live, &mut missing_since);
                nodes.send_if_modified(|current| {
                    let changed = *current != live;
                    if changed {
                        tracing::info!(nodes = live.iter().count(), "the live chat nodes have changed");
                        *current = live;
                    }
                    changed
                });
            }
            Err(error) => {
                if lock(&not_ready_reason).replace(error.description()).is_none() {
                    let why = error.not_ready_reason();
                    tracing::warn!(%error, "the last live chat nodes count as live: Redis {why}");
                }
            }
        }
        sleep(MIN_INTERVAL).await;
        let _ = timeout(INTERVAL - MIN_INTERVAL, refresh.notified()).await;
    }
}

/// The live nodes, and the error of Redis if it refuses writes, in which case leases are not renewed.
async fn live(table: &Redis) -> Result<(Nodes, String), Unanswered> {
    let mut script = scripts::LIVE.prepare_invoke();
    script.key(table.key(TABLE_KEY)).key(table.key(WRITE_PROBE_KEY));
    let (refused, live): (String, Vec<(String, String, String)>) =
        table.ask(async |mut redis| script.invoke_async(&mut redis).await).await?;
    let nodes = Nodes::new(live.into_iter().filter_map(|(name, address, state)| {
        let backend: Option<Backend> = address.parse().ok().filter(|_| Nodes::is_name(&name));
        backend.map(|backend| (name, Node { backend, is_open: state != CLOSED }))
    }));
    Ok((nodes, refused))
}

/// The live nodes, and missing nodes within their grace period. `missing_since` keeps when each of them was first
/// missing.
fn with_grace(current: &Nodes, live: Nodes, missing_since: &mut HashMap<String, Instant>) -> Nodes {
    missing_since.retain(|name, _| live.get(name).is_none());
    let missing = current.iter().filter(|(name, node)| {
        let is_gone = live.get(name).is_none() && node.is_open;
        is_gone && missing_since.entry((*name).to_owned()).or_insert_with(Instant::now).elapsed() < GRACE
    });
    let all = missing.chain(live.iter()).map(|(name, node)| (name.to_owned(), node.clone()));
    Nodes::new(all.collect::<Vec<_>>())
}
