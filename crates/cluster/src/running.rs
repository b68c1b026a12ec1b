//! The chat nodes that run, for a tool that needs them stopped.

use remote::Location;

use crate::{TABLE_KEY, WRITE_PROBE_KEY, scripts, table};

/// The live entries of the table as texts: the name and the address of each node. An entry that cannot be read counts as live, because a
/// later release may have written it.
///
/// # Errors
/// When Redis does not answer. The text names the cause.
pub async fn running(at: impl Into<Location>) -> Result<Vec<String>, String> {
    let table = table(at)?;
    let mut script = scripts::LIVE.prepare_invoke();
    script.key(table.key(TABLE_KEY)).key(table.key(WRITE_PROBE_KEY));
    let (_, live, unreadable): (String, Vec<(Vec<u8>, String, String)>, Vec<Vec<u8>>) = table
        .ask(async |mut redis| script.invoke_async(&mut redis).await)
        .await
        .map_err(|error| format!("Redis {}", error.not_ready_reason()))?;
    let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
    let live = live.iter().map(|(name, address, _)| format!("{} at {address}", text(name)));
    Ok(live.chain(unreadable.iter().map(|name| text(name))).collect())
}
