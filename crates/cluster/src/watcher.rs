//! The view of a gateway: reads the table of nodes periodically. While Redis does not answer, the last live nodes count
//! as live. An entry that cannot be read affects no other entry, and its node counts as live until it has had time to
//! renew the entry.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use remote::{Location, NO_ANSWER, Redis, SCRIPTS, Unanswered, cause};

use crate::{Backend, CLOSED, Node, NodeLease, Nodes, TABLE_KEY, WRITE_PROBE_KEY, scripts, table, waiting};

/// Keeps a copy of the table of nodes up to date until it is dropped.
pub struct Watcher {
    nodes: watch::Receiver<Nodes>,
    refresh: Arc<Notify>,
    table: Redis,
    not_ready_reason: Arc<Mutex<Option<String>>>,
    write_refusal: Arc<Mutex<Option<String>>>,
    waiting: Arc<Mutex<Vec<(String, String)>>>,
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
/// Redis lost its data, and the node needs time to renew: [`NodeLease`] renews every 5 s.
const GRACE: Duration = Duration::from_secs(8);

/// Minimum time between two warnings about entries that cannot be read.
const WARN_INTERVAL: Duration = Duration::from_secs(60);

/// Maximum number of names in such a warning, and of characters of a name.
const MAX_NAMES: usize = 8;
const MAX_NAME: usize = 64;

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
        let write_refusal = Arc::<Mutex<Option<String>>>::default();
        let waiting = Arc::<Mutex<Vec<(String, String)>>>::default();
        let reports = Reports {
            not_ready_reason: not_ready_reason.clone(),
            write_refusal: write_refusal.clone(),
            waiting: waiting.clone(),
        };
        let (sender, asked, requested) = (Arc::new(sender), table.clone(), refresh.clone());
        let task = tokio::spawn(supervision::restart("table of nodes", move || {
            watch(asked.clone(), sender.clone(), reports.clone(), requested.clone())
        }));
        Ok(Self { nodes, refresh, table, not_ready_reason, write_refusal, waiting, task })
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

    /// Why Redis refused a write at the last read, as text that follows its name: the cause, the remedy, and in brackets the reply. Nodes
    /// cannot announce themselves meanwhile. `None` when Redis accepted the write, or did not answer.
    pub fn write_refusal(&self) -> Option<String> {
        lock(&self.write_refusal).clone()
    }

    /// The nodes that wait for their stores, each with the cause: the name of a store, and a phrase. Empty while a node accepts sessions.
    pub fn waiting(&self) -> Vec<(String, String)> {
        lock(&self.waiting).clone()
    }
}

/// Why a gateway cannot read the table of nodes at `at`, or a Redis with which nodes cannot renew their leases, as text that follows
/// "Redis". `None` when both work. For the doctor: it tries the commands of [`Watcher`], and no trial key remains.
///
/// # Errors
/// When the address of Redis is invalid. The text names the flag.
pub async fn refusal(at: impl Into<Location>) -> Result<Option<String>, String> {
    let table = table(at)?;
    let commands = [&NEEDED[..], &["SET"]].concat();
    let refusal = table.refusal(&commands).await;
    table.delete_trials().await;
    Ok(match refusal {
        Some(refusal) => Some(refusal),
        None => table.foreign_value(TABLE_KEY, "hash").await,
    })
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The texts of a watcher for `/readyz`.
#[derive(Clone)]
struct Reports {
    not_ready_reason: Arc<Mutex<Option<String>>>,
    write_refusal: Arc<Mutex<Option<String>>>,
    waiting: Arc<Mutex<Vec<(String, String)>>>,
}

async fn watch(table: Redis, nodes: Arc<watch::Sender<Nodes>>, reports: Reports, refresh: Arc<Notify>) {
    let Reports { not_ready_reason, write_refusal, waiting: notes } = reports;
    let mut view = View::default();
    loop {
        match read(&table).await {
            Ok(entries) => {
                *lock(&not_ready_reason) = None;
                *lock(&write_refusal) = (!entries.refused.is_empty())
                    .then(|| format!("{} (SET: {})", cause::of_reply(&entries.refused), entries.refused));
                view.report(&table, &entries);
                let live = view.with_grace(&nodes.borrow(), entries);
                // Without the right to read the notes a gateway works.
                let waiting = if live.has_open() {
                    Vec::new()
                } else {
                    waiting::read(&table).await.unwrap_or_default()
                };
                *lock(&notes) = waiting;
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

/// Name, address and state of a node.
type LiveEntry = (Vec<u8>, String, String);

/// The entries of the table.
struct Entries {
    live: Nodes,
    /// The names of entries that cannot be read.
    unreadable: Vec<String>,
    /// The error of Redis if it refuses writes, in which case leases are not renewed. Otherwise empty.
    refused: String,
}

async fn read(table: &Redis) -> Result<Entries, Unanswered> {
    let mut script = scripts::LIVE.prepare_invoke();
    script.key(table.key(TABLE_KEY)).key(table.key(WRITE_PROBE_KEY));
    // Names are bytes: another program can write any.
    let (refused, live, unreadable): (String, Vec<LiveEntry>, Vec<Vec<u8>>) =
        table.ask(async |mut redis| script.invoke_async(&mut redis).await).await?;
    let text = |name: Vec<u8>| String::from_utf8_lossy(&name).into_owned();
    let mut unreadable: Vec<String> = unreadable.into_iter().map(text).collect();
    let mut nodes = Vec::new();
    for (name, address, state) in live {
        let name = text(name);
        match address.parse::<Backend>() {
            Ok(backend) if Nodes::is_name(&name) => {
                nodes.push((name, Node { backend, is_open: state != CLOSED }));
            }
            _ => unreadable.push(name),
        }
    }
    Ok(Entries { live: Nodes::new(nodes), unreadable, refused })
}

/// What a watcher keeps from one read to the next.
#[derive(Default)]
struct View {
    /// Since when nodes of the last read have no live entry.
    missing_since: HashMap<String, Instant>,
    /// The last error of Redis.
    refusal: String,
    /// The time of the last warning about entries that cannot be read.
    warned: Option<Instant>,
}

impl View {
    /// Logs when Redis begins to refuse writes, and at most once within [`WARN_INTERVAL`] which entries cannot be read.
    fn report(&mut self, table: &Redis, entries: &Entries) {
        let Entries { unreadable, refused, .. } = entries;
        if *refused != self.refusal {
            if !refused.is_empty() {
                tracing::warn!(
                    refused,
                    "writes are refused by Redis: all chat nodes of its table count as live"
                );
            }
            self.refusal.clone_from(refused);
        }
        if !unreadable.is_empty() && self.warned.is_none_or(|last| last.elapsed() >= WARN_INTERVAL) {
            self.warned = Some(Instant::now());
            let brief = |name: &String| name.chars().take(MAX_NAME).collect::<String>();
            let names: Vec<String> = unreadable.iter().take(MAX_NAMES).map(brief).collect();
            let (key, count) = (table.key(TABLE_KEY), unreadable.len());
            tracing::warn!(
                key,
                count,
                ?names,
                "entries of the table of nodes cannot be read and are ignored: another program has written them"
            );
        }
    }

    /// The live nodes, and nodes of the last read without a live entry: open ones for [`GRACE`], and those whose entry cannot be
    /// read, which no node has released, for the time of a lease.
    fn with_grace(&mut self, current: &Nodes, entries: Entries) -> Nodes {
        let Entries { live, unreadable, .. } = entries;
        self.missing_since.retain(|name, _| live.get(name).is_none() && current.get(name).is_some());
        let missing = current.iter().filter(|(name, node)| {
            let limit = match unreadable.iter().any(|other| other == name) {
                true => NodeLease::TTL,
                false if node.is_open => GRACE,
                false => return false,
            };
            let is_gone = live.get(name).is_none();
            is_gone
                && self.missing_since.entry((*name).to_owned()).or_insert_with(Instant::now).elapsed() < limit
        });
        let all = missing.chain(live.iter()).map(|(name, node)| (name.to_owned(), node.clone()));
        Nodes::new(all.collect::<Vec<_>>())
    }
}
