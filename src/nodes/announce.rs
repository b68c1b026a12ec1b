//! A chat node's own part: it says that it lives, again and again, until it ends.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use gateway::{Backend, Nodes};
use tokio::{task::JoinHandle, time::sleep};

use remote::{Redis, Unanswered};

use super::{KEY, scripts, table};

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
    /// Whether the table has it.
    is_known: AtomicBool,
}

impl Announcement {
    /// How long a node that has fallen silent is taken for alive. It renews after a third of that.
    pub const LEASE: Duration = Duration::from_secs(15);

    /// After a renewal that failed the next one comes so soon.
    const AGAIN: Duration = Duration::from_secs(1);

    /// Announces the node `name`, which gateways reach at `address`, in the Redis at `url`, which need not be there yet. Needs a
    /// running runtime.
    ///
    /// # Errors
    /// When the name cannot be one, or the address none of Redis: in words that name the flag.
    pub fn start(url: &str, name: &str, address: Backend, lease: Duration) -> Result<Self, String> {
        Self::check(name)?;
        let (table, name) = (table(url)?, name.to_owned());
        let node = Arc::new(Node { table, name, address, lease, is_known: AtomicBool::new(false) });
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
        move || node.is_known.load(Ordering::Relaxed)
    }

    /// Takes the node out of the table: the first thing of a drain. If Redis is away its lease does that.
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
            let before = self.is_known.swap(known, Ordering::Relaxed);
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
        self.table.ask(async |mut redis| script.invoke_async(&mut redis).await).await
    }
}
