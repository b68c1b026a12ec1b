//! Notes of chat nodes that wait for their stores and hold no lease yet. A gateway without a node that accepts sessions reports them as the
//! cause. A note reserves no name, and it expires with the time of a lease.

use remote::{Location, Redis, StoreGate, Unanswered};

use crate::{NodeLease, Nodes, WAITING_KEY, scripts, table};

/// The maximum length of a cause, in characters.
const MAX_CAUSE: usize = 512;

/// The maximum number of notes that a gateway reads.
const MAX_NOTES: usize = 8;

/// A node that waits. Cheap to clone.
#[derive(Clone)]
pub struct WaitingNode {
    table: Redis,
    name: String,
}

impl WaitingNode {
    /// The node `name`, with notes in the Redis at `at`. The gate of the stores is not checked, because the node waits for it.
    ///
    /// # Errors
    /// When the address of Redis is invalid. The text names the flag.
    pub fn new(at: &Location, name: &str) -> Result<Self, String> {
        let table = table(at.clone().with_gate(&StoreGate::default()))?;
        Ok(Self { table, name: name.to_owned() })
    }

    /// Writes why the node waits: the name of a store, and the cause. Redis may be unavailable.
    pub async fn report(&self, cause: &str) {
        let mut script = scripts::WAIT.prepare_invoke();
        script.key(self.table.key(WAITING_KEY)).arg(&self.name).arg(brief(cause));
        script.arg(u64::try_from(NodeLease::TTL.as_millis()).unwrap_or(u64::MAX));
        let written = self.table.ask(async |mut redis| script.invoke_async::<()>(&mut redis).await).await;
        if let Err(error) = written {
            tracing::debug!(%error, "gateways do not learn why this node waits: the note is not written");
        }
    }
}

/// The names of the nodes that wait, each with the cause. Notes with an invalid name are ignored.
pub(crate) async fn read(table: &Redis) -> Result<Vec<(String, String)>, Unanswered> {
    let mut script = scripts::WAITING.prepare_invoke();
    script.key(table.key(WAITING_KEY));
    // Another program can write any bytes.
    let notes: Vec<(Vec<u8>, Vec<u8>)> =
        table.ask(async |mut redis| script.invoke_async(&mut redis).await).await?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let notes = notes.into_iter().map(|(name, cause)| (text(name), brief(&text(cause))));
    let mut notes: Vec<_> = notes.filter(|(name, _)| Nodes::is_name(name)).collect();
    notes.sort();
    notes.truncate(MAX_NOTES);
    Ok(notes)
}

/// The first [`MAX_CAUSE`] characters, without control characters.
fn brief(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(MAX_CAUSE).collect()
}
