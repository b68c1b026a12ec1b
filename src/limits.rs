//! Limits of the system for this process: open files and memory. Clients get only a part of both, so that the stores and the operators
//! are served while clients use all of theirs.

use std::{fs, thread};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Minimum and maximum number of descriptors that clients do not get. Between them it is a quarter of the limit.
const RESERVED: (u64, u64) = (128, 512);

/// Minimum and maximum number of connections of a worker. Further connections wait in the backlog.
const CONNECTIONS: (usize, usize) = (8, 200_000);

/// A memory budget that clients can use up gets `1 / SHARE` of the memory of the control group.
const SHARE: usize = 8;

/// Number of processors of the process.
pub fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Raises the soft limit of open files to the hard limit.
pub fn raise_open_files() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files cannot be raised, so fewer clients can connect");
    }
}

/// Maximum number of connections of each of `workers`, when each connection needs `each` descriptors.
pub fn connections(workers: usize, each: u64) -> usize {
    per_worker(getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft), workers, each)
}

fn per_worker(limit: u64, workers: usize, each: u64) -> usize {
    let reserved = (limit / 4).clamp(RESERVED.0, RESERVED.1);
    let all = limit.saturating_sub(reserved) / each.max(1);
    (usize::try_from(all).unwrap_or(usize::MAX) / workers.max(1)).clamp(CONNECTIONS.0, CONNECTIONS.1)
}

/// Lowers a memory budget in bytes to its share of the memory of the control group. Without this the system would end the process before a
/// budget is used up.
pub fn fit(budget: &mut usize) {
    let limit = fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    if let Some(memory) = limit.and_then(|text| text.trim().parse::<usize>().ok()) {
        *budget = (*budget).min(memory / SHARE);
    }
}

/// Like [`fit`], for a budget in KiB.
pub fn fit_kib(budget: &mut usize) {
    let mut bytes = budget.saturating_mul(1 << 10);
    fit(&mut bytes);
    *budget = bytes >> 10;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_get_descriptors_outside_the_reserve() {
        assert_eq!(per_worker(1_024, 2, 1), (1_024 - 256) / 2);
        assert_eq!(per_worker(1_024, 2, 2), (1_024 - 256) / 4, "a gateway");
        assert_eq!(per_worker(64, 4, 1), CONNECTIONS.0);
        assert_eq!(per_worker(u64::MAX, 1, 1), CONNECTIONS.1);
    }
}
