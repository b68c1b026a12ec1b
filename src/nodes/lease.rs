//! A chat node's own part: it says that it lives, again and again, until it ends.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use gateway::{Backend, Nodes};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep},
};

use remote::{Location, Redis, SILENT, Unanswered};

use crate::supervision;

use super::{CLOSED, OPEN, TABLE_KEY, scripts, table};

/// The node is told to the gateways as long as this lives, and until it is withdrawn or its lease ends.
pub struct NodeLease {
    node: Arc<Registration>,
    renewal: JoinHandle<()>,
}

/// What is announced.
struct Registration {
    table: Redis,
    name: String,
    address: Backend,
    ttl: Duration,
    /// Whether it takes what is new.
    is_open: AtomicBool,
    /// What the table says of it.
    state: watch::Sender<LeaseState>,
}

/// What the table of nodes says of one.
#[derive(Debug, Clone, PartialEq, Eq)]
enum LeaseState {
    /// It could not be written. The words follow "Redis".
    Unknown(String),
    /// The name is another living node's.
    HeldByOther,
    /// It was, and may be again in a moment.
    Available,
    /// It is there.
    Held,
}

impl NodeLease {
    /// How long a node that has fallen silent is taken for alive. It renews after a third of that.
    pub const TTL: Duration = Duration::from_secs(15);

    /// After a renewal that failed the next one comes so soon.
    const RETRY: Duration = Duration::from_secs(1);

    /// Announces the node `name`, which gateways reach at `address`, in the Redis at `at`, which need not be there yet: as closed, so
    /// that the name is its own before anybody comes. Needs a running runtime.
    ///
    /// # Errors
    /// When the name cannot be one, or the address none of Redis: in words that name the flag.
    pub fn start(
        at: impl Into<Location>,
        name: &str,
        address: Backend,
        ttl: Duration,
    ) -> Result<Self, String> {
        Self::check_name(name)?;
        let (table, name) = (table(at)?, name.to_owned());
        let (is_open, state) =
            (AtomicBool::new(false), watch::Sender::new(LeaseState::Unknown(SILENT.to_owned())));
        let node = Arc::new(Registration { table, name, address, ttl, is_open, state });
        let renewed = node.clone();
        let renewal = tokio::spawn(supervision::restart("announcement", move || renewed.clone().renew()));
        Ok(Self { node, renewal })
    }

    /// Refuses a name that no node can have, in words that name the flag.
    pub fn check_name(name: &str) -> Result<(), String> {
        let refused =
            "the value of --node (GODZILLA_NODE) is refused: expected up to 63 letters, digits and dashes";
        if Nodes::is_name(name) { Ok(()) } else { Err(refused.to_owned()) }
    }

    /// Why gateways cannot know the node, if so, in words that go behind "the table of nodes". For `/readyz`.
    pub fn not_ready_reason(&self) -> impl Fn() -> Option<String> + Send + Sync + 'static {
        let node = self.node.clone();
        move || match &*node.state.borrow() {
            LeaseState::Unknown(why) => Some(format!("cannot be written: Redis {why}")),
            LeaseState::HeldByOther | LeaseState::Available => {
                Some("has another node of this name, which lives".to_owned())
            }
            LeaseState::Held => None,
        }
    }

    /// Waits until no other node of this name lives.
    pub async fn acquired(&self) {
        // An error would mean that the node is gone, which this holds.
        _ = self.node.state.subscribe().wait_for(|state| *state == LeaseState::Held).await;
    }

    /// Resolves when another node has the name that was held: it may do nothing more under it.
    pub fn lost(&self) -> impl Future<Output = ()> + use<> {
        let mut state = self.node.state.subscribe();
        async move {
            // An error would mean that the node is gone, and with it who asks.
            _ = state
                .wait_for(|state| matches!(state, LeaseState::HeldByOther | LeaseState::Available))
                .await;
        }
    }

    /// Gateways may bring what is new.
    pub async fn open(&self) {
        self.set_open(true).await;
    }

    /// Gateways bring nothing new, and go on bringing what belongs to the sessions that are here: the first thing of a drain.
    pub async fn close(&self) {
        self.set_open(false).await;
    }

    async fn set_open(&self, open: bool) {
        self.node.is_open.store(open, Ordering::Relaxed);
        if let Err(error) = self.node.write(false).await {
            tracing::warn!(%error, open, "gateways are told so at the next renewal");
        }
    }

    /// Takes the node out of the table, when it has no sessions any more. If Redis is away its lease does that.
    pub async fn release(self) {
        self.renewal.abort();
        let Registration { table, name, address, .. } = &*self.node;
        let mut script = scripts::RELEASE.prepare_invoke();
        script.key(table.key(TABLE_KEY)).arg(name).arg(address.to_string());
        let released = table.ask(async |mut redis| script.invoke_async::<()>(&mut redis).await).await;
        if let Err(error) = released {
            tracing::warn!(%error, "this node cannot be withdrawn, its lease has to end");
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
        // Since when the name is free that was another node's.
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
                Err(error) => LeaseState::Unknown(error.description()),
            };
            was_taken = state == LeaseState::HeldByOther || (was_taken && state != LeaseState::Held);
            let before = self.state.send_replace(state.clone());
            if state != before {
                let node = &self.name;
                match written {
                    Ok(LeaseState::Held) => tracing::info!(node, "announced to the gateways"),
                    Ok(_) => tracing::warn!(
                        node,
                        "another chat node of this name lives, or just did; --node names this one"
                    ),
                    Err(error) => {
                        let why = error.not_ready_reason();
                        tracing::warn!(%error, "this node cannot announce itself: Redis {why}");
                    }
                }
            }
            let is_held = state == LeaseState::Held;
            sleep(if is_held { self.ttl / 3 } else { NodeLease::RETRY.min(self.ttl / 3) }).await;
        }
    }

    /// For so long a name is left to who had it, and only has to say so again.
    fn claim_delay(&self) -> Duration {
        self.ttl / 3 + NodeLease::RETRY
    }

    async fn write(&self, claims: bool) -> Result<LeaseState, Unanswered> {
        let mut script = scripts::RENEW.prepare_invoke();
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
