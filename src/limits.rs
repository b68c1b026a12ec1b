//! Limits that the system puts on this process, compared with what a role needs. Checked before anything is started, so that what is
//! missing is named instead of the first part that fails for it; read by the doctor, and by `/readyz` for what can run out later.

use std::{
    fmt::Write,
    fs, io,
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
};

use nix::sys::resource::{Resource, getrlimit};

use crate::{descriptors, error::Error};

/// Threads of a role besides those that grow with the cores, the allocator's included.
const THREADS: usize = 28;

/// Threads per core: an HTTP worker, a thread of the allocator, a blocking call.
const THREADS_PER_CORE: usize = 3;

/// The least address space, in bytes: most of it is reserved and never used.
const ADDRESSES: u64 = 1_280 << 20;

/// The least private memory, in bytes: the stacks of threads, of which most is never used, and what the allocator has reserved.
const DATA: u64 = 192 << 20;

/// The least memory of a control group, in bytes.
const MEMORY: u64 = 48 << 20;

/// The least size of files where there is a store, in bytes.
const FILE: u64 = 1 << 20;

/// What a role needs.
#[derive(Debug, Clone, Copy)]
pub struct Needs {
    /// Whether it keeps an embedded store.
    pub store: bool,
}

/// Refuses to start a role that a limit keeps from working.
///
/// # Errors
/// Each limit that is too low, with its value, what is needed, and what raises it.
pub fn check(needs: Needs) -> Result<(), Error> {
    let shortages = shortages(needs);
    if shortages.is_empty() { Ok(()) } else { Err(Error::Limits(shortages.join("; "))) }
}

/// The limits that are too low for a role, in words.
pub fn shortages(needs: Needs) -> Vec<String> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let memory = [
        too_low(soft(Resource::RLIMIT_AS), ADDRESSES, "the address space", "ulimit -v, LimitAS= of systemd"),
        too_low(soft(Resource::RLIMIT_DATA), DATA, "private memory", "ulimit -d, LimitDATA= of systemd"),
        too_low(
            group_limit("memory", "memory.max", "memory.limit_in_bytes"),
            MEMORY,
            "the memory of the control group",
            "MemoryMax= of systemd, --memory of docker, resources.limits.memory of Kubernetes",
        ),
    ];
    // Threads fail for a lack of memory, too.
    let has_memory = memory.iter().all(Option::is_none);
    let threads = has_memory.then(|| probe(THREADS + cores * THREADS_PER_CORE).err()).flatten();
    let file = soft(Resource::RLIMIT_FSIZE).filter(|limit| needs.store && *limit < FILE).map(|limit| {
        format!(
            "files may have {} KiB, and the store needs at least {} KiB; raise the limit (ulimit -f, LimitFSIZE= of systemd)",
            limit >> 10,
            FILE >> 10
        )
    });
    [descriptors::shortage(cores), file, threads].into_iter().chain(memory).flatten().collect()
}

/// What is wrong with a limit of memory, in words.
fn too_low(limit: Option<u64>, needed: u64, what: &str, remedy: &str) -> Option<String> {
    limit.filter(|limit| *limit < needed).map(|limit| {
        let (limit, needed) = (limit >> 20, needed >> 20);
        format!("{what} is limited to {limit} MiB, and at least {needed} MiB are needed; raise the limit ({remedy})")
    })
}

/// Why no further thread can be started, if so, in words. For `/readyz`.
pub fn not_ready_reason() -> Option<String> {
    let started = thread::Builder::new().name("probe".to_owned()).spawn(|| ());
    match started.map(thread::JoinHandle::join) {
        Ok(_) => None,
        Err(error) => Some(format!("no thread can be started: {error}; {}", thread_limits())),
    }
}

/// What is said when not even the first thread of the process can be started.
pub fn no_thread(error: &io::Error) -> String {
    format!("no thread can be started: {error}; {}", thread_limits())
}

/// Starts so many threads at the same time, and ends them.
fn probe(needed: usize) -> Result<(), String> {
    let (mut threads, mut outcome) = (Vec::with_capacity(needed), Ok(()));
    for _ in 0..needed {
        let (end, ended) = mpsc::channel::<()>();
        let waits = move || _ = ended.recv();
        match thread::Builder::new().name("probe".to_owned()).spawn(waits) {
            Ok(thread) => threads.push((end, thread)),
            Err(error) => {
                outcome = Err(format!(
                    "{} threads can be started, and {needed} are needed: {error}; {}",
                    threads.len(),
                    thread_limits()
                ));
                break;
            }
        }
    }
    for (end, thread) in threads {
        drop(end);
        // It does nothing that panics.
        _ = thread.join();
    }
    outcome
}

/// The limits that keep threads from being started, each with what raises it.
fn thread_limits() -> String {
    let mut text = String::new();
    let mut add = |limit: Option<u64>, what: &str, remedy: &str| {
        if let Some(limit) = limit {
            // Writing to a string cannot fail.
            _ = write!(text, "{what} is {limit} ({remedy}); ");
        }
    };
    add(
        soft(Resource::RLIMIT_NPROC),
        "the limit of processes and threads of the user",
        "ulimit -u, LimitNPROC= of systemd, --ulimit nproc of docker",
    );
    add(
        group_limit("pids", "pids.max", "pids.max"),
        "the limit of tasks of the control group",
        "pids.max: TasksMax= of systemd, --pids-limit of docker, podPidsLimit of Kubernetes",
    );
    add(
        soft(Resource::RLIMIT_AS).map(|limit| limit >> 20),
        "the address space in MiB",
        "ulimit -v, LimitAS=",
    );
    match text.is_empty() {
        true => "the whole system has no more (kernel.threads-max, kernel.pid_max)".to_owned(),
        false => format!("{text}raise the one that is reached"),
    }
}

/// A limit of the process; none where there is no limit.
fn soft(resource: Resource) -> Option<u64> {
    getrlimit(resource).ok().map(|(soft, _)| soft).filter(|limit| *limit != nix::libc::RLIM_INFINITY)
}

/// The lowest limit among the control group of this process and those around it; none where there is no limit. `controller` and
/// `old` are the names of version 1, `new` that of version 2.
fn group_limit(controller: &str, new: &str, old: &str) -> Option<u64> {
    /// Version 1 has a number for "no limit": the largest multiple of a page.
    const NONE: u64 = 1 << 60;
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let root = Path::new("/sys/fs/cgroup");
    let files = groups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (kinds, path) = (parts.next()?, parts.next()?.trim_start_matches('/'));
        match kinds {
            "" => Some((root.to_owned(), path, new)),
            _ if kinds.split(',').any(|kind| kind == controller) => Some((root.join(kinds), path, old)),
            _ => None,
        }
    });
    let limits = files.flat_map(|(root, path, file)| {
        let inside = Path::new(path).ancestors().map(|group| root.join(group).join(file));
        inside.collect::<Vec<PathBuf>>()
    });
    let read = |path: PathBuf| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    limits.filter_map(read).filter(|limit| *limit < NONE).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_builds_this_has_what_a_role_needs() {
        assert_eq!(shortages(Needs { store: true }), [""; 0]);
        assert_eq!(not_ready_reason(), None);
    }

    #[test]
    fn threads_that_cannot_be_started_are_named_with_what_limits_them() {
        let text = no_thread(&io::Error::from(io::ErrorKind::WouldBlock));
        assert!(text.contains("no thread can be started") && text.contains("; "), "{text}");
    }
}
