//! File descriptors of the process. Every client needs one, and stores, other services and operators need some. Clients
//! therefore get only a part of them, so that the other parts work with the maximum number of clients. Used by the
//! roles, the HTTP server and `/readyz`.

use std::fs;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Minimum and maximum number of descriptors that clients do not get. Between them it is a quarter of the limit.
const RESERVED: (u64, u64) = (128, 512);

/// Minimum number of connections of a worker, for any limit.
const MIN_CONNECTIONS: usize = 8;

/// Maximum number of connections of a worker. Further connections wait in the backlog.
const MAX_CONNECTIONS: usize = 200_000;

/// Raises the soft limit of open files to the hard limit.
pub fn raise() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(soft, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map(|()| (soft, hard)));
    match raised {
        Ok((soft, hard)) => tracing::debug!(soft, hard, "raised the limit of open files"),
        Err(error) => {
            tracing::warn!(%error, "the limit of open files cannot be raised, so fewer clients can connect; raise it with `ulimit -n` or LimitNOFILE=")
        }
    }
}

/// Minimum number of descriptors with which `roles` roles in one process work: their own, the reserve, and some clients.
fn needed(cores: usize, roles: usize) -> u64 {
    /// Descriptors of a role without clients.
    const OWN: u64 = 64;
    /// Descriptors of an HTTP worker and its clients.
    const PER_CORE: u64 = 4;
    let bounded = |count: usize| u64::try_from(count).unwrap_or(u64::MAX).min(1 << 20);
    RESERVED.0 + bounded(roles) * (OWN + PER_CORE * bounded(cores))
}

/// Why the hard limit, to which [`raise`] raises the soft limit, is too low for the roles of the process. `None` when it is
/// sufficient.
pub fn shortage(cores: usize, roles: usize) -> Option<String> {
    let (needed, limit) =
        (needed(cores, roles), getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(_, hard)| hard));
    (limit < needed).then(|| {
        format!(
            "the limit of open files is {limit}, and at least {needed} are needed; raise it (`ulimit -n`, LimitNOFILE= of \
             systemd, --ulimit nofile of docker)"
        )
    })
}

/// Maximum number of connections of each of `workers`, when each connection needs `each` descriptors.
pub fn connections(workers: usize, each: u64) -> usize {
    per_worker(limit(), workers, each)
}

fn per_worker(limit: u64, workers: usize, each: u64) -> usize {
    let all = limit.saturating_sub(reserved(limit)) / each.max(1);
    let all = usize::try_from(all).unwrap_or(usize::MAX);
    (all / workers.max(1)).clamp(MIN_CONNECTIONS, MAX_CONNECTIONS)
}

/// Why no further clients can be accepted. `None` when they can.
pub fn not_ready_reason() -> Option<String> {
    let (open, limit) = (open()?, limit());
    let is_full = open >= limit.saturating_sub(reserved(limit));
    is_full.then(|| {
        format!("{open} of {limit} files are open, the rest is reserved; raise the limit of open files")
    })
}

/// Number of open descriptors of the process. `None` when the system does not report it.
fn open() -> Option<u64> {
    const FOLDER: &str = "/proc/self/fd";
    // Linux 6.2 and later report the count as the size of the directory.
    let counted = fs::metadata(FOLDER).ok()?.len();
    if counted > 0 { Some(counted) } else { u64::try_from(fs::read_dir(FOLDER).ok()?.count()).ok() }
}

fn limit() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft)
}

fn reserved(limit: u64) -> u64 {
    (limit / 4).clamp(RESERVED.0, RESERVED.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_get_descriptors_outside_the_reserve() {
        assert_eq!(per_worker(1_024, 2, 1), (1_024 - 256) / 2);
        assert_eq!(per_worker(1_024, 2, 2), (1_024 - 256) / 4, "a gateway");
        assert_eq!(per_worker(100_000, 4, 1), (100_000 - 512) / 4);
        assert_eq!(per_worker(64, 4, 1), MIN_CONNECTIONS, "below the minimum");
        assert_eq!(per_worker(u64::MAX, 1, 1), MAX_CONNECTIONS);
    }

    #[test]
    fn each_role_of_a_process_needs_descriptors() {
        let one = needed(2, 1);
        for (cores, roles, more) in [(2, 2, 72), (2, 4, 3 * 72), (4, 2, 8 + 80)] {
            assert_eq!(needed(cores, roles), one + more, "{roles} roles on {cores} cores");
        }
    }

    #[test]
    fn open_files_are_counted() {
        let before = open().unwrap();
        let files = [(); 10].map(|()| fs::File::open("/dev/null").unwrap());
        assert!(open().unwrap() >= before + 10, "{}", files.len());
    }
}
