//! A part and its end: reported unless the process drains, counted, and followed by the end of the process.

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

/// The phase of a process that is not supervised.
const OFF: u8 = 0;
/// No part may end.
const RUNNING: u8 = 1;
/// Parts may end, but not by a panic.
const DRAINING: u8 = 2;

/// How long a process may go on after one of its parts has failed. Whoever runs it needs some of 5 s to notice.
const BACKSTOP: Duration = Duration::from_secs(3);

/// The name of a part, as it appears in `/readyz`, in metrics and in the log.
type Name = Cow<'static, str>;

static PHASE: AtomicU8 = AtomicU8::new(OFF);
static FAILED: LazyLock<watch::Sender<Option<Name>>> = LazyLock::new(|| watch::Sender::new(None));
static ENDED: Mutex<BTreeSet<Name>> = Mutex::new(BTreeSet::new());

/// A part that must not end by itself: held by what runs it. Dropping it is the end of the part.
#[derive(Debug)]
pub struct Part(Name);

/// Starts supervision: from now on the end of a [`Part`] is the end of the process.
pub fn start() {
    PHASE.store(RUNNING, Ordering::Release);
}

/// The process was asked to end: from now on parts may end, but not by a panic.
pub fn drain() {
    _ = PHASE.compare_exchange(RUNNING, DRAINING, Ordering::AcqRel, Ordering::Acquire);
}

/// Resolves with the name of the first part that ended without being asked.
pub async fn failed() -> String {
    let mut failed = FAILED.subscribe();
    match failed.wait_for(Option::is_some).await {
        Ok(part) => part.as_deref().unwrap_or_default().to_owned(),
        // The sender is a static.
        Err(_) => std::future::pending().await,
    }
}

/// The parts that have ended without being asked, sorted. For `/readyz`.
pub fn ended() -> Vec<String> {
    names().iter().map(ToString::to_string).collect()
}

/// Counts a panic by the folder of the source file that panicked: a crate of this workspace, or `other`. For panic hooks: it
/// neither panics nor blocks.
pub fn count_panic(panic: &PanicHookInfo<'_>) {
    let file = panic.location().map_or("", |location| location.file());
    metrics::counter!("godzilla_panics_total", "part" => folder(file)).increment(1);
}

/// The first folder of a path relative to the workspace. Paths of dependencies are absolute.
fn folder(file: &str) -> String {
    match file.split_once('/') {
        Some((folder, _)) if !folder.is_empty() => folder.to_owned(),
        _ => "other".to_owned(),
    }
}

/// Runs `future` as a part whose end, by return or by panic, is the end of the process. The part exists from the call on,
/// whether or not the future is ever polled.
pub fn essential<F: Future>(part: &'static str, future: F) -> impl Future<Output = F::Output> {
    let alive = Part::new(part);
    let future = crate::faulty(part, future);
    async move {
        let _alive = alive;
        future.await
    }
}

impl Part {
    /// A part of this name; `name` is a few lower-case words.
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
    metrics::counter!("godzilla_parts_failed_total", "part" => part.to_string()).increment(1);
    names().insert(part.clone());
    let is_first = FAILED.send_if_modified(|failed| {
        let is_first = failed.is_none();
        if is_first {
            *failed = Some(part.clone());
        }
        is_first
    });
    if is_first {
        tracing::error!(part = &*part, "a part ended without being asked, the process ends");
        end_process_later();
    }
}

/// Ends the process even if every runtime in it hangs.
fn end_process_later() {
    let backstop = thread::Builder::new().name("backstop".into()).spawn(|| {
        thread::sleep(BACKSTOP);
        process::exit(1);
    });
    if backstop.is_err() {
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
    fn panics_are_labelled_by_folder() {
        assert_eq!(folder("chat/src/log/local.rs"), "chat");
        assert_eq!(folder("src/main.rs"), "src");
        assert_eq!(folder("/home/user/.cargo/registry/src/x/tokio/src/lib.rs"), "other");
        assert_eq!(folder(""), "other");
    }

    #[test]
    fn without_supervision_parts_end_silently() {
        drop(Part::new("unsupervised"));
        assert!(!ended().contains(&"unsupervised".to_owned()));
    }
}
