//! A chat node's own part: it says that it lives, again and again, until it ends.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use gateway::{Backend, Nodes};
use tokio::{sync::watch, task::JoinHandle, time::sleep};

use remote::{Redis, Unanswered};

use super::{CLOSED, KEY, OPEN, scripts, table};

/// The node is told to the gateways as long as this lives, and until it is withdrawn or its lease ends.
pub struct Announcement {
    node: Arc<Node>,
    renewing: JoinHandle<()>,
}

/// What is announced.
struct Node {
    table: Redis,
    name: String,
    address: Backend,
    lease: Duration,
    /// Whether it takes what is new.
    is_open: AtomicBool,
    /// Whether the table has it.
    is_known: watch::Sender<bool>,
}

impl Announcement {
    /// How long a node that has fallen silent is taken for alive. It renews after a third of that.
    pub const LEASE: Duration = Duration::from_secs(15);

    /// After a renewal that failed the next one comes so soon.
    const AGAIN: Duration = Duration::from_secs(1);

    /// Announces the node `name`, which gateways reach at `address`, in the Redis at `url`, which need not be there yet: as closed, so
    /// that the name is its own before anybody comes. Needs a running runtime.
    ///
    /// # Errors
    /// When the name cannot be one, or the address none of Redis: in words that name the flag.
    pub fn start(url: &str, name: &str, address: Backend, lease: Duration) -> Result<Self, String> {
        Self::check(name)?;
        let (table, name) = (table(url)?, name.to_owned());
        let (is_open, is_known) = (AtomicBool::new(false), watch::Sender::new(false));
        let node = Arc::new(Node { table, name, address, lease, is_open, is_known });
        let renewing = tokio::spawn(node.clone().renew());
        Ok(Self { node, renewing })
    }

    /// Refuses a name that no node can have, in words that name the flag.
    pub fn check(name: &str) -> Result<(), String> {
        let refused =
            "the value of --node (GODZILLA_NODE) is refused: expected up to 63 letters, digits and dashes";
        if Nodes::is_name(name) { Ok(()) } else { Err(refused.to_owned()) }
    }

    /// Whether gateways can know the node. For `/readyz`; not while another node of its name lives.
    pub fn known(&self) -> impl Fn() -> bool + Send + Sync + 'static {
        let node = self.node.clone();
        move || *node.is_known.borrow()
    }

    /// Waits until no other node of this name lives.
    pub async fn held(&self) {
        // An error would mean that the node is gone, which this holds.
        _ = self.node.is_known.subscribe().wait_for(|known| *known).await;
    }

    /// Gateways may bring what is new.
    pub async fn open(&self) {
        self.become_open(true).await;
    }

    /// Gateways bring nothing new, and go on bringing what belongs to the sessions that are here: the first thing of a drain.
    pub async fn close(&self) {
        self.become_open(false).await;
    }

    async fn become_open(&self, open: bool) {
        self.node.is_open.store(open, Ordering::Relaxed);
        if let Err(error) = self.node.announce().await {
            tracing::warn!(%error, open, "gateways are told so at the next renewal");
        }
    }

    /// Takes the node out of the table, when it has no sessions any more. If Redis is away its lease does that.
    pub async fn withdraw(self) {
        self.renewing.abort();
        let Node { table, name, address, .. } = &*self.node;
        let mut script = scripts::WITHDRAW.prepare_invoke();
        script.key(KEY).arg(name).arg(address.to_string());
        let withdrawn = table.ask(async |mut redis| script.invoke_async::<()>(&mut redis).await).await;
        if let Err(error) = withdrawn {
            tracing::warn!(%error, "this node cannot be withdrawn, its lease has to end");
        }
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        self.renewing.abort();
    }
}

impl Node {
    async fn renew(self: Arc<Self>) {
        loop {
            let said = self.announce().await;
            let known = matches!(said, Ok(true));
            let before = self.is_known.send_replace(known);
            match said {
                Ok(true) if !before => tracing::info!(node = self.name, "announced to the gateways"),
                Ok(true) => {}
                Ok(false) => tracing::warn!(
                    node = self.name,
                    "another chat node of this name lives; --node names this one"
                ),
                Err(error) => tracing::warn!(%error, "this node cannot announce itself, trying again"),
            }
            sleep(if known { self.lease / 3 } else { Announcement::AGAIN.min(self.lease / 3) }).await;
        }
    }

    async fn announce(&self) -> Result<bool, Unanswered> {
        let mut script = scripts::ANNOUNCE.prepare_invoke();
        script.key(KEY).arg(&self.name).arg(self.address.to_string());
        script.arg(u64::try_from(self.lease.as_millis()).unwrap_or(u64::MAX));
        script.arg(if self.is_open.load(Ordering::Relaxed) { OPEN } else { CLOSED });
        self.table.ask(async |mut redis| script.invoke_async(&mut redis).await).await
    }
}
