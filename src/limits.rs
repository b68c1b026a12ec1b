//! Limits of the system for this process, compared with the needs of a role. They are checked before any part starts,
//! so that the error names the limit and not the first part that fails. The doctor reads them, too, and `/readyz` reads
//! those that can be reached later.

pub mod budgets;

use std::{
    fmt::Write,
    fs, io,
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
};

use nix::sys::resource::{Resource, getrlimit};

use crate::{descriptors, error::Error};

/// Threads of a role that do not depend on the number of cores, including the allocator's.
const THREADS: usize = 29;

/// Threads per core: an HTTP worker, a thread of the allocator, a blocking call.
const THREADS_PER_CORE: usize = 3;

/// Minimum address space in bytes. Most of it is reserved and never used.
const ADDRESSES: u64 = 1_280 << 20;

/// Minimum private memory in bytes: the stacks of threads, of which most is never used, and reservations of the
/// allocator.
const DATA: u64 = 192 << 20;

/// Minimum memory of a control group in bytes.
const MEMORY: u64 = 48 << 20;

/// Minimum file size limit in bytes, for roles with a store.
const FILE: u64 = 1 << 20;

/// Threads of a further role in the process, that do not depend on the number of cores.
const THREADS_PER_ROLE: usize = 3;

/// Threads per core of a further role: an HTTP worker and a blocking call.
const THREADS_PER_ROLE_AND_CORE: usize = 2;

/// The needs of a process.
#[derive(Debug, Clone, Copy)]
pub struct Needs {
    /// Whether a role has an embedded store.
    pub store: bool,
    /// Number of roles.
    pub roles: usize,
}

impl Needs {
    fn threads(self, cores: usize) -> usize {
        let further = self.roles.saturating_sub(1);
        let each = THREADS_PER_ROLE + cores * THREADS_PER_ROLE_AND_CORE;
        THREADS + cores * THREADS_PER_CORE + further * each
    }
}

/// Refuses to start a role when a limit is too low.
///
/// # Errors
/// Each limit that is too low: its value, the minimum, and how to raise it.
pub fn check(needs: Needs) -> Result<(), Error> {
    let shortages = shortages(needs);
    if shortages.is_empty() { Ok(()) } else { Err(Error::Limits(shortages.join("; "))) }
}

/// The limits that are too low for a role, each as text.
pub fn shortages(needs: Needs) -> Vec<String> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let memory = [
        too_low(soft(Resource::RLIMIT_AS), ADDRESSES, "the address space", "ulimit -v, LimitAS= of systemd"),
        too_low(soft(Resource::RLIMIT_DATA), DATA, "private memory", "ulimit -d, LimitDATA= of systemd"),
        too_low(
            memory(),
            MEMORY,
            "the memory of the control group",
            "MemoryMax= of systemd, --memory of docker, resources.limits.memory of Kubernetes",
        ),
    ];
    // Threads also fail when memory is short.
    let has_memory = memory.iter().all(Option::is_none);
    let threads = has_memory.then(|| probe(needs.threads(cores)).err()).flatten();
    let file = soft(Resource::RLIMIT_FSIZE).filter(|limit| needs.store && *limit < FILE).map(|limit| {
        format!(
            "files may have {} KiB, and the store needs at least {} KiB; raise the limit (ulimit -f, LimitFSIZE= of systemd)",
            limit >> 10,
            FILE >> 10
        )
    });
    [descriptors::shortage(cores, needs.roles), file, threads].into_iter().chain(memory).flatten().collect()
}

/// The text for a memory limit that is too low.
fn too_low(limit: Option<u64>, needed: u64, what: &str, remedy: &str) -> Option<String> {
    limit.filter(|limit| *limit < needed).map(|limit| {
        let (limit, needed) = (limit >> 20, needed >> 20);
        format!("{what} is limited to {limit} MiB, and at least {needed} MiB are needed; raise the limit ({remedy})")
    })
}

/// The memory limit of the control group in bytes, for version 1 and 2. `None` without a limit.
pub fn memory() -> Option<u64> {
    group_limit("memory", "memory.max", "memory.limit_in_bytes")
}

/// Why no further thread can be started. `None` when one can. For `/readyz`.
pub fn not_ready_reason() -> Option<String> {
    let started = thread::Builder::new().name("probe".to_owned()).spawn(|| ());
    match started.map(thread::JoinHandle::join) {
        Ok(_) => None,
        Err(error) => Some(format!("no thread can be started: {error}; {}", thread_limits())),
    }
}

/// The error when the first thread of the process cannot be started.
pub fn no_thread(error: &io::Error) -> String {
    format!("no thread can be started: {error}; {}", thread_limits())
}

/// Starts `needed` threads at the same time, then ends them.
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
        // The thread cannot panic.
        _ = thread.join();
    }
    outcome
}

/// The limits on the number of threads, each with how to raise it.
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
        false => format!("{text}raise the limit that is reached"),
    }
}

/// A limit of the process. `None` when it is unlimited.
fn soft(resource: Resource) -> Option<u64> {
    getrlimit(resource).ok().map(|(soft, _)| soft).filter(|limit| *limit != nix::libc::RLIM_INFINITY)
}

/// The lowest limit of the control group of this process and its ancestors. `None` when there is no limit. `controller`
/// and `old` are names of cgroup version 1, `new` is the name of version 2.
fn group_limit(controller: &str, new: &str, old: &str) -> Option<u64> {
    /// Version 1 represents "no limit" as a number: the largest multiple of a page.
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
    fn the_build_machine_satisfies_the_needs_of_a_role() {
        assert_eq!(shortages(Needs { store: true, roles: 4 }), [""; 0]);
        assert_eq!(not_ready_reason(), None);
    }

    #[test]
    fn errors_of_thread_starts_name_the_limits() {
        let text = no_thread(&io::Error::from(io::ErrorKind::WouldBlock));
        assert!(text.contains("no thread can be started") && text.contains("; "), "{text}");
    }
}
