//! The lease of a chat node: the node renews its entry in the table until it drains.

use std::{
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep},
};

use remote::{Location, Redis, Unanswered, redis::Script};

use crate::{Backend, CLOSED, Nodes, OPEN, TABLE_KEY, script, table};

/// Key: the table. Arguments: the node, its address, its lease in milliseconds, `open` or `closed`, and `1` if the node
/// may claim a free name. Replies 1 if the node holds the lease, 0 while another node holds it, and 2 if the name is free and
/// was not claimed.
pub(crate) static RENEW: LazyLock<Script> = LazyLock::new(|| {
    script(
        r"
        local node, address, lease, state, claims = unpack(ARGV)
        local expires, other = parts(redis.call('HGET', KEYS[1], node))
        if other ~= address then
            if expires and expires > now then return 0 end
            if claims ~= '1' then return 2 end
        end
        redis.call('HSET', KEYS[1], node, string.format('%.0f', now + lease) .. ' ' .. address .. ' ' .. state)
        return 1
        ",
    )
});

/// Key: the table. Arguments: the node, its address. Does not remove the entry of another node of this name.
static RELEASE: LazyLock<Script> = LazyLock::new(|| {
    script(
        r"
        local node, address = unpack(ARGV)
        local _, other = parts(redis.call('HGET', KEYS[1], node))
        if other == address then redis.call('HDEL', KEYS[1], node) end
        ",
    )
});

/// Holds the lease of a node and renews it. Gateways find the node until the lease is released or expires. Dropping the
/// value stops the renewal.
pub struct NodeLease {
    node: Arc<Registration>,
    renewal: JoinHandle<()>,
}

/// The entry of the node.
struct Registration {
    table: Redis,
    name: String,
    address: Backend,
    ttl: Duration,
    /// Whether the node accepts new sessions.
    is_open: AtomicBool,
    /// The state of the lease after the last renewal.
    state: watch::Sender<LeaseState>,
}

/// State of a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
enum LeaseState {
    /// The entry could not be written.
    Unknown(String),
    /// Another live node holds the name.
    HeldByOther,
    /// No live node holds the name, and this node has not claimed it. The previous holder may still renew its lease.
    Available,
    /// This node holds the lease.
    Held,
}

impl NodeLease {
    /// How long a node without renewals counts as live. It renews its lease after a third of that.
    pub const TTL: Duration = Duration::from_secs(15);

    /// Pause after a failed renewal.
    const RETRY: Duration = Duration::from_secs(1);

    /// Starts the lease of the node `name`, which gateways reach at `address`, in the Redis at `at`. Redis may be
    /// unavailable. The node's entry in the table begins as closed: gateways send it no sessions until it holds its name. Must be
    /// called within a Tokio runtime.
    ///
    /// # Errors
    /// When the name or the address of Redis is invalid. The error's text names the flag to correct.
    pub fn start(
        at: impl Into<Location>,
        name: &str,
        address: Backend,
        ttl: Duration,
    ) -> Result<Self, String> {
        Self::check_name(name)?;
        let (table, name) = (table(at)?, name.to_owned());
        let (is_open, state) =
            (AtomicBool::new(false), watch::Sender::new(LeaseState::Unknown("not written yet".to_owned())));
        let node = Arc::new(Registration { table, name, address, ttl, is_open, state });
        let renewed = node.clone();
        let renewal = tokio::spawn(supervision::restart("node lease", move || renewed.clone().renew()));
        Ok(Self { node, renewal })
    }

    /// Refuses an invalid name. The text names the flag.
    pub fn check_name(name: &str) -> Result<(), String> {
        let refused =
            "the value of --node (GODZILLA_NODE) is refused: expected up to 63 letters, digits and dashes";
        if Nodes::is_name(name) { Ok(()) } else { Err(refused.to_owned()) }
    }

    /// Why gateways cannot find the node, as text that follows "the table of nodes". `None` when they can. For
    /// `/readyz`.
    pub fn not_ready_reason(&self) -> impl Fn() -> Option<String> + Send + Sync + 'static {
        let node = self.node.clone();
        move || match &*node.state.borrow() {
            LeaseState::Unknown(why) => Some(format!("cannot be written: {why}")),
            LeaseState::HeldByOther | LeaseState::Available => {
                Some("has another node of this name, which lives".to_owned())
            }
            LeaseState::Held => None,
        }
    }

    /// Waits until this node holds the lease.
    pub async fn acquired(&self) {
        // The sender exists as long as `self`, so an error is impossible.
        _ = self.node.state.subscribe().wait_for(|state| *state == LeaseState::Held).await;
    }

    /// Resolves when another node has taken the name. This node must then stop.
    pub fn lost(&self) -> impl Future<Output = ()> + use<> {
        let mut state = self.node.state.subscribe();
        async move {
            // An error means that the lease was dropped, and with it the caller.
            _ = state
                .wait_for(|state| matches!(state, LeaseState::HeldByOther | LeaseState::Available))
                .await;
        }
    }

    /// Marks the node as open: gateways may send new sessions.
    pub async fn open(&self) {
        self.set_open(true).await;
    }

    /// Marks the node as closed: gateways send no new sessions, and continue to send requests of its existing sessions.
    /// The first step of a drain.
    pub async fn close(&self) {
        self.set_open(false).await;
    }

    async fn set_open(&self, open: bool) {
        self.node.is_open.store(open, Ordering::Relaxed);
        if let Err(error) = self.node.write(false).await {
            tracing::warn!(%error, open, "the state of this node is not written; the next renewal writes it");
        }
    }

    /// Removes the node from the table, after its sessions have ended. If Redis is unavailable the lease expires
    /// instead.
    pub async fn release(self) {
        self.renewal.abort();
        let Registration { table, name, address, .. } = &*self.node;
        let mut script = RELEASE.prepare_invoke();
        script.key(table.key(TABLE_KEY)).arg(name).arg(address.to_string());
        let released = table.ask(async |mut redis| script.invoke_async::<()>(&mut redis).await).await;
        if let Err(error) = released {
            tracing::warn!(%error, "the lease of this node is not released; it expires");
        }
    }
}

impl Drop for NodeLease {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

impl Registration {
    async fn renew(self: Arc<Self>) {
        // Whether another node held the name, and since when the name is free.
        let (mut was_taken, mut free) = (false, None::<Instant>);
        loop {
            let claims = !was_taken || free.is_some_and(|since| since.elapsed() > self.claim_delay());
            let written = self.write(claims).await;
            free = match written {
                Ok(LeaseState::Available) => free.or_else(|| Some(Instant::now())),
                _ => None,
            };
            let state = match &written {
                Ok(state) => state.clone(),
                Err(error) => LeaseState::Unknown(error.to_string()),
            };
            was_taken = state == LeaseState::HeldByOther || (was_taken && state != LeaseState::Held);
            let before = self.state.send_replace(state.clone());
            if state != before {
                let node = &self.name;
                match written {
                    Ok(LeaseState::Held) => tracing::info!(node, "the lease of this node is acquired"),
                    Ok(_) => tracing::warn!(
                        node,
                        "the name of this node is taken: another chat node holds its lease or held it until now; set --node to another name"
                    ),
                    Err(error) => tracing::warn!(%error, "the lease of this node is not renewed"),
                }
            }
            let is_held = state == LeaseState::Held;
            sleep(if is_held { self.ttl / 3 } else { NodeLease::RETRY.min(self.ttl / 3) }).await;
        }
    }

    /// How long a free name stays reserved for its previous holder, which only has to renew its lease.
    fn claim_delay(&self) -> Duration {
        self.ttl / 3 + NodeLease::RETRY
    }

    async fn write(&self, claims: bool) -> Result<LeaseState, Unanswered> {
        let mut script = RENEW.prepare_invoke();
        script.key(self.table.key(TABLE_KEY)).arg(&self.name).arg(self.address.to_string());
        script.arg(u64::try_from(self.ttl.as_millis()).unwrap_or(u64::MAX));
        script.arg(if self.is_open.load(Ordering::Relaxed) { OPEN } else { CLOSED });
        script.arg(u8::from(claims));
        let answer: u8 = self.table.ask(async |mut redis| script.invoke_async(&mut redis).await).await?;
        Ok(match answer {
            0 => LeaseState::HeldByOther,
            1 => LeaseState::Held,
            _ => LeaseState::Available,
        })
    }
}
