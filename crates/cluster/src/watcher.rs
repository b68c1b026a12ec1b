//! The view of a gateway: reads the table of nodes periodically. While Redis does not answer, the last live nodes count
//! as live.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
    time::Duration,
};

use remote::{Location, Redis, Unanswered, redis::Script};
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use crate::{Backend, CLOSED, Node, Nodes, TABLE_KEY, script, table};

/// Interval of the reads.
const INTERVAL: Duration = Duration::from_secs(1);

/// Minimum interval of the reads. A request for a node that is not in the copy triggers an early read. Its name can be
/// valid or invalid.
const MIN_INTERVAL: Duration = Duration::from_millis(50);

/// How long an open node that is missing counts as live. Redis was unavailable and the lease expired meanwhile, or
/// Redis lost its data, and the node needs time to renew: [`crate::NodeLease`] renews every 5 s.
const GRACE: Duration = Duration::from_secs(8);

/// Key: the table. Replies with name, address and state of every live node, and deletes expired entries.
static LIVE: LazyLock<Script> = LazyLock::new(|| {
    script(
        r"
        local live, all = {}, redis.call('HGETALL', KEYS[1])
        for index = 1, #all, 2 do
            local expires, address, state = parts(all[index + 1])
            if expires and expires > now then
                table.insert(live, {all[index], address, state})
            elseif expires then
                redis.pcall('HDEL', KEYS[1], all[index])
            end
        end
        return live
        ",
    )
});

/// Keeps a copy of the table of nodes up to date until it is dropped.
pub struct Watcher {
    nodes: watch::Receiver<Nodes>,
    refresh: Arc<Notify>,
    problem: watch::Receiver<Option<String>>,
    task: JoinHandle<()>,
}

impl Watcher {
    /// Watches the table in the Redis at `at`, which may be unavailable. Needs a running runtime.
    ///
    /// # Errors
    /// When the address of Redis is invalid. The text names the flag.
    pub fn start(at: impl Into<Location>) -> Result<Self, String> {
        let (table, refresh) = (table(at)?, Arc::new(Notify::new()));
        let (sender, nodes) = watch::channel(Nodes::default());
        let (problems, problem) = watch::channel(Some("not read yet".to_owned()));
        let (senders, requested) = (Arc::new((sender, problems)), refresh.clone());
        let task = tokio::spawn(supervision::restart("table of nodes", move || {
            watch(table.clone(), senders.clone(), requested.clone())
        }));
        Ok(Self { nodes, refresh, problem, task })
    }

    /// The current table, and its changes.
    pub fn nodes(&self) -> watch::Receiver<Nodes> {
        self.nodes.clone()
    }

    /// Notify it to request an early read.
    pub fn refresh(&self) -> Arc<Notify> {
        self.refresh.clone()
    }

    /// Why Redis did not answer the last read. `None` when it answered.
    pub fn not_ready_reason(&self) -> Option<String> {
        self.problem.borrow().clone()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The channels of the table, and of why it is not read.
type Senders = (watch::Sender<Nodes>, watch::Sender<Option<String>>);

async fn watch(table: Redis, senders: Arc<Senders>, refresh: Arc<Notify>) {
    let (nodes, problem) = &*senders;
    let mut missing_since = HashMap::new();
    loop {
        match read(&table).await {
            Ok(live) => {
                problem.send_replace(None);
                let live = with_grace(&mut missing_since, &nodes.borrow(), &live);
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
                if problem.send_replace(Some(error.to_string())).is_none() {
                    tracing::warn!(%error, "the table of nodes is not read: the last live nodes count as live");
                }
            }
        }
        sleep(MIN_INTERVAL).await;
        let _ = timeout(INTERVAL - MIN_INTERVAL, refresh.notified()).await;
    }
}

async fn read(table: &Redis) -> Result<Nodes, Unanswered> {
    let mut script = LIVE.prepare_invoke();
    script.key(table.key(TABLE_KEY));
    let live: Vec<(String, String, String)> =
        table.ask(async |mut redis| script.invoke_async(&mut redis).await).await?;
    let nodes = live.into_iter().filter_map(|(name, address, state)| {
        let backend = address.parse::<Backend>().ok().filter(|_| Nodes::is_name(&name))?;
        Some((name, Node { backend, is_open: state != CLOSED }))
    });
    Ok(Nodes::new(nodes))
}

/// The live nodes, and open nodes of the last read that are missing since less than [`GRACE`].
fn with_grace(missing_since: &mut HashMap<String, Instant>, current: &Nodes, live: &Nodes) -> Nodes {
    missing_since.retain(|name, _| live.get(name).is_none() && current.get(name).is_some());
    let missing = current.iter().filter(|(name, node)| {
        node.is_open
            && live.get(name).is_none()
            && missing_since.entry((*name).to_owned()).or_insert_with(Instant::now).elapsed() < GRACE
    });
    let all = missing.chain(live.iter()).map(|(name, node)| (name.to_owned(), node.clone()));
    Nodes::new(all.collect::<Vec<_>>())
}
