//! A gateway's part: it asks again and again which nodes live. While Redis does not answer, those that lived last are believed in.

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

use remote::{Location, Redis, SCRIPTS, SILENT, Unanswered};

use super::{CLOSED, TABLE_KEY, WRITE_PROBE_KEY, scripts, table};
use crate::supervision;

/// Keeps a table of the nodes up to date as long as it lives.
pub struct Watcher {
    nodes: watch::Receiver<Nodes>,
    refresh: Arc<Notify>,
    table: Redis,
    not_ready_reason: Arc<Mutex<Option<String>>>,
    task: JoinHandle<()>,
}

/// The commands by which the table is read.
const NEEDED: [&str; 4] = [SCRIPTS[0], SCRIPTS[1], "TIME", "HGETALL"];

/// Between two questions.
const INTERVAL: Duration = Duration::from_secs(1);

/// Between two questions when somebody cannot wait: whoever names a node that is not known may be right, or may not.
const MIN_INTERVAL: Duration = Duration::from_millis(50);

/// For so long a node is believed in that is gone without having closed: Redis was away and its lease ended meanwhile, or Redis has
/// forgotten, and the node needs a moment to announce itself again.
const GRACE: Duration = Duration::from_secs(5);

impl Watcher {
    /// Watches the table in the Redis at `at`, which need not be there yet. Needs a running runtime.
    ///
    /// # Errors
    /// When the address is none of Redis: in words that name the flag.
    pub fn start(at: impl Into<Location>) -> Result<Self, String> {
        let table = table(at)?;
        let (sender, nodes) = watch::channel(Nodes::default());
        let not_ready_reason = Arc::new(Mutex::new(Some(SILENT.to_owned())));
        let refresh = Arc::new(Notify::new());
        let (reason, requested) = (not_ready_reason.clone(), refresh.clone());
        let (sender, asked) = (Arc::new(sender), table.clone());
        let task = tokio::spawn(supervision::restart("table of nodes", move || {
            watch(asked.clone(), sender.clone(), reason.clone(), requested.clone())
        }));
        Ok(Self { nodes, refresh, table, not_ready_reason, task })
    }

    /// The table, now and later.
    pub fn nodes(&self) -> watch::Receiver<Nodes> {
        self.nodes.clone()
    }

    /// Notified, it makes the next question come soon.
    pub fn refresh(&self) -> Arc<Notify> {
        self.refresh.clone()
    }

    /// Why Redis did not answer the last question, if so, in words that follow its name.
    pub async fn not_ready_reason(&self) -> Option<String> {
        let not_ready_reason = lock(&self.not_ready_reason).clone()?;
        // A script that fails does not name the command.
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
                            "writes are refused by Redis, so all chat nodes of its table count as live"
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
                    tracing::warn!(%error, "the last known chat nodes count as live: Redis {why}");
                }
            }
        }
        sleep(MIN_INTERVAL).await;
        let _ = timeout(INTERVAL - MIN_INTERVAL, refresh.notified()).await;
    }
}

/// The nodes that live, and the error of Redis if it refuses writes: then leases say nothing.
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

/// Those that live, and of those that were known the ones that may only be forgotten: `missing` says since when.
fn with_grace(current: &Nodes, live: Nodes, missing_since: &mut HashMap<String, Instant>) -> Nodes {
    missing_since.retain(|name, _| live.get(name).is_none());
    let forgotten = current.iter().filter(|(name, node)| {
        let is_gone = live.get(name).is_none() && node.is_open;
        is_gone && missing_since.entry((*name).to_owned()).or_insert_with(Instant::now).elapsed() < GRACE
    });
    let all = forgotten.chain(live.iter()).map(|(name, node)| (name.to_owned(), node.clone()));
    Nodes::new(all.collect::<Vec<_>>())
}
