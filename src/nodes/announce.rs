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
    /// What the table says of it.
    standing: watch::Sender<Standing>,
}

/// What the table of nodes says of one.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Standing {
    /// It could not be written. The words follow "Redis".
    Unknown(String),
    /// The name is another living node's.
    Taken,
    /// It was, and may be again in a moment.
    Free,
    /// It is there.
    Held,
}

impl Announcement {
    /// How long a node that has fallen silent is taken for alive. It renews after a third of that.
    pub const LEASE: Duration = Duration::from_secs(15);

    /// After a renewal that failed the next one comes so soon.
    const AGAIN: Duration = Duration::from_secs(1);

    /// Announces the node `name`, which gateways reach at `address`, in the Redis at `at`, which need not be there yet: as closed, so
    /// that the name is its own before anybody comes. Needs a running runtime.
    ///
    /// # Errors
    /// When the name cannot be one, or the address none of Redis: in words that name the flag.
    pub fn start(
        at: impl Into<Location>,
        name: &str,
        address: Backend,
        lease: Duration,
    ) -> Result<Self, String> {
        Self::check(name)?;
        let (table, name) = (table(at)?, name.to_owned());
        let (is_open, standing) =
            (AtomicBool::new(false), watch::Sender::new(Standing::Unknown(SILENT.to_owned())));
        let node = Arc::new(Node { table, name, address, lease, is_open, standing });
        let renewed = node.clone();
        let renewing = tokio::spawn(supervision::restart("announcement", move || renewed.clone().renew()));
        Ok(Self { node, renewing })
    }

    /// Refuses a name that no node can have, in words that name the flag.
    pub fn check(name: &str) -> Result<(), String> {
        let refused =
            "the value of --node (GODZILLA_NODE) is refused: expected up to 63 letters, digits and dashes";
        if Nodes::is_name(name) { Ok(()) } else { Err(refused.to_owned()) }
    }

    /// Why gateways cannot know the node, if so, in words that go behind "the table of nodes". For `/readyz`.
    pub fn not_ready_reason(&self) -> impl Fn() -> Option<String> + Send + Sync + 'static {
        let node = self.node.clone();
        move || match &*node.standing.borrow() {
            Standing::Unknown(why) => Some(format!("cannot be written: Redis {why}")),
            Standing::Taken | Standing::Free => Some("has another node of this name, which lives".to_owned()),
            Standing::Held => None,
        }
    }

    /// Waits until no other node of this name lives.
    pub async fn held(&self) {
        // An error would mean that the node is gone, which this holds.
        _ = self.node.standing.subscribe().wait_for(|standing| *standing == Standing::Held).await;
    }

    /// Resolves when another node has the name that was held: it may do nothing more under it.
    pub fn lost(&self) -> impl Future<Output = ()> + use<> {
        let mut standing = self.node.standing.subscribe();
        async move {
            // An error would mean that the node is gone, and with it who asks.
            _ = standing.wait_for(|standing| matches!(standing, Standing::Taken | Standing::Free)).await;
        }
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
        if let Err(error) = self.node.announce(false).await {
            tracing::warn!(%error, open, "gateways are told so at the next renewal");
        }
    }

    /// Takes the node out of the table, when it has no sessions any more. If Redis is away its lease does that.
    pub async fn withdraw(self) {
        self.renewing.abort();
        let Node { table, name, address, .. } = &*self.node;
        let mut script = scripts::WITHDRAW.prepare_invoke();
        script.key(table.key(KEY)).arg(name).arg(address.to_string());
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
        // Since when the name is free that was another node's.
        let (mut was_taken, mut free) = (false, None::<Instant>);
        loop {
            let claims = !was_taken || free.is_some_and(|since| since.elapsed() > self.precedence());
            let said = self.announce(claims).await;
            free = match said {
                Ok(Standing::Free) => free.or_else(|| Some(Instant::now())),
                _ => None,
            };
            let standing = match &said {
                Ok(standing) => standing.clone(),
                Err(error) => Standing::Unknown(error.description()),
            };
            was_taken = standing == Standing::Taken || (was_taken && standing != Standing::Held);
            let before = self.standing.send_replace(standing.clone());
            if standing != before {
                let node = &self.name;
                match said {
                    Ok(Standing::Held) => tracing::info!(node, "announced to the gateways"),
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
            let is_held = standing == Standing::Held;
            sleep(if is_held { self.lease / 3 } else { Announcement::AGAIN.min(self.lease / 3) }).await;
        }
    }

    /// For so long a name is left to who had it, and only has to say so again.
    fn precedence(&self) -> Duration {
        self.lease / 3 + Announcement::AGAIN
    }

    async fn announce(&self, claims: bool) -> Result<Standing, Unanswered> {
        let mut script = scripts::ANNOUNCE.prepare_invoke();
        script.key(self.table.key(KEY)).arg(&self.name).arg(self.address.to_string());
        script.arg(u64::try_from(self.lease.as_millis()).unwrap_or(u64::MAX));
        script.arg(if self.is_open.load(Ordering::Relaxed) { OPEN } else { CLOSED });
        script.arg(u8::from(claims));
        let answer: u8 = self.table.ask(async |mut redis| script.invoke_async(&mut redis).await).await?;
        Ok(match answer {
            0 => Standing::Taken,
            1 => Standing::Held,
            _ => Standing::Free,
        })
    }
}
