//! A part and its end: unless the process drains, an end is reported and counted, and ends the process.

use std::{
    borrow::Cow,
    collections::BTreeSet,
    panic::PanicHookInfo,
    process,
    sync::{
        LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::sync::watch;

/// Phase: the process is not supervised.
const OFF: u8 = 0;
/// Phase: no part may end.
const RUNNING: u8 = 1;
/// Phase: parts may end, but not by a panic.
const DRAINING: u8 = 2;

/// The longest time from the failure of a part to the exit of the process. Less than 5 s, so that the service
/// manager has time to react.
const EXIT_DEADLINE: Duration = Duration::from_secs(3);

/// The name of a part in `/readyz`, metrics and logs.
type Name = Cow<'static, str>;

static PHASE: AtomicU8 = AtomicU8::new(OFF);
static FAILED: LazyLock<watch::Sender<Option<Name>>> = LazyLock::new(|| watch::Sender::new(None));
static ENDED: Mutex<BTreeSet<Name>> = Mutex::new(BTreeSet::new());

/// The guard of a part that must not end unexpectedly. The task, actor or thread that runs the part holds it.
/// Its drop is the end of the part.
#[derive(Debug)]
pub struct Part(Name);

/// Starts supervision: from now on the end of a [`Part`] ends the process.
pub fn start() {
    PHASE.store(RUNNING, Ordering::Release);
}

/// The process is shutting down: from now on parts may end, but not by a panic.
pub fn drain() {
    _ = PHASE.compare_exchange(RUNNING, DRAINING, Ordering::AcqRel, Ordering::Acquire);
}

/// Resolves with the name of the first part that ended unexpectedly.
pub async fn failed() -> String {
    let mut failed = FAILED.subscribe();
    match failed.wait_for(Option::is_some).await {
        Ok(part) => part.as_deref().unwrap_or_default().to_owned(),
        // Unreachable: the sender is a static.
        Err(_) => std::future::pending().await,
    }
}

/// The parts that have ended unexpectedly, sorted. For `/readyz`.
pub fn ended() -> Vec<String> {
    names().iter().map(ToString::to_string).collect()
}

/// Counts a panic by the crate of its source file, or as `other`. For panic hooks: it neither panics nor
/// blocks.
pub fn count_panic(panic: &PanicHookInfo<'_>) {
    let file = panic.location().map_or("", |location| location.file());
    metrics::counter!("godzilla_panics_total", "part" => folder(file)).increment(1);
}

/// The name of the crate's folder in a path relative to the workspace. Paths of dependencies are absolute.
fn folder(file: &str) -> String {
    match file.strip_prefix("crates/").unwrap_or(file).split_once('/') {
        Some((folder, _)) if !folder.is_empty() => folder.to_owned(),
        _ => "other".to_owned(),
    }
}

/// Runs `future` as a part whose end, by return or by panic, ends the process. The part exists from the call
/// on, even if the future is not polled.
pub fn essential<F: Future>(part: &'static str, future: F) -> impl Future<Output = F::Output> {
    let guard = Part::new(part);
    let future = crate::with_fault_point(part, future);
    async move {
        let _guard = guard;
        future.await
    }
}

impl Part {
    /// A part with a name of a few lower-case words.
    pub fn new(name: impl Into<Name>) -> Self {
        Self(name.into())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let is_failure = match PHASE.load(Ordering::Acquire) {
            RUNNING => true,
            DRAINING => thread::panicking(),
            _ => false,
        };
        if is_failure {
            fail(std::mem::take(&mut self.0));
        }
    }
}

fn fail(part: Name) {
    metrics::counter!("godzilla_part_failures_total", "part" => part.to_string()).increment(1);
    names().insert(part.clone());
    let is_first = FAILED.send_if_modified(|failed| {
        let is_first = failed.is_none();
        if is_first {
            *failed = Some(part.clone());
        }
        is_first
    });
    if is_first {
        tracing::error!(part = &*part, "an essential part ended unexpectedly, exiting");
        exit_after_deadline();
    }
}

/// Exits the process after a deadline, even if every runtime in it hangs.
fn exit_after_deadline() {
    let exit_deadline = thread::Builder::new().name("exit_deadline".into()).spawn(|| {
        thread::sleep(EXIT_DEADLINE);
        process::exit(1);
    });
    if exit_deadline.is_err() {
        process::exit(1);
    }
}

fn names() -> MutexGuard<'static, BTreeSet<Name>> {
    ENDED.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_are_labelled_by_crate() {
        assert_eq!(folder("chat/src/log/local.rs"), "chat");
        assert_eq!(folder("crates/socketio/src/shard/mod.rs"), "socketio");
        assert_eq!(folder("src/main.rs"), "src");
        assert_eq!(folder("/home/user/.cargo/registry/src/x/tokio/src/lib.rs"), "other");
        assert_eq!(folder(""), "other");
    }

    #[test]
    fn an_unsupervised_part_ends_without_a_report() {
        drop(Part::new("unsupervised"));
        assert!(!ended().contains(&"unsupervised".to_owned()));
    }
}
