//! Memory budgets that clients can use up, compared with the memory limit of the control group. Without a fitting budget, the system
//! kills the process before a budget is reached.

use crate::{config::Sockets, http};

/// Memory of the process without clients, in bytes.
const BASE: u64 = 32 << 20;

/// A default budget gets `1 / SHARE` of the memory beyond [`BASE`]. The rest is for connections, requests in progress and the stores.
const SHARE: u64 = 8;

const KIB: u64 = 1 << 10;

const MIB: u64 = 1 << 20;

/// A budget.
pub struct Budget<'a> {
    /// The flag and its variable.
    flag: &'static str,
    /// The id of the flag.
    id: &'static str,
    /// Its value, in units of `unit` bytes.
    value: &'a mut usize,
    unit: u64,
    /// The smallest value of the flag, in bytes.
    least: u64,
}

impl Budget<'_> {
    fn bytes(&self) -> u64 {
        (*self.value as u64).saturating_mul(self.unit)
    }
}

/// The budget of large HTTP responses that clients have not read.
pub fn unread_answers(config: &mut gateway::Config) -> Budget<'_> {
    Budget {
        flag: "--unread-answers (GODZILLA_UNREAD_ANSWERS)",
        id: "unread_answers",
        value: &mut config.unread_answers,
        unit: KIB,
        least: MIB,
    }
}

/// The budget of events that clients have not read.
pub fn queued_bytes(config: &mut Sockets) -> Budget<'_> {
    Budget {
        flag: "--queued-bytes (GODZILLA_QUEUED_BYTES)",
        id: "queued_bytes",
        value: &mut config.queued_bytes,
        unit: 1,
        least: MIB,
    }
}

/// The budgets without a flag.
#[derive(Debug, PartialEq, Eq)]
pub struct Fitted {
    /// The bytes of the unfinished requests of all servers of the process together.
    pub unfinished_requests: usize,
    /// The text of a warning when all budgets together do not fit.
    pub shortage: Option<String>,
}

/// Lowers the budgets whose flags are not set to what fits into `memory`, in bytes. `is_default` returns whether the flag of this id is not
/// set.
pub fn fit(all: &mut [Budget<'_>], memory: Option<u64>, is_default: &dyn Fn(&str) -> bool) -> Fitted {
    let Some(memory) = memory else {
        return Fitted { unfinished_requests: http::UNFINISHED_REQUESTS, shortage: None };
    };
    let share = memory.saturating_sub(BASE) / SHARE;
    for budget in all.iter_mut().filter(|budget| is_default(budget.id)) {
        let bytes = share.clamp(budget.least, budget.bytes().max(budget.least));
        *budget.value = usize::try_from(bytes / budget.unit).unwrap_or(usize::MAX);
    }
    let unfinished = share.clamp(MIB, http::UNFINISHED_REQUESTS as u64);
    let sum = all.iter().map(Budget::bytes).fold(BASE + unfinished, u64::saturating_add);
    let shortage = (sum > memory).then(|| {
        let parts: Vec<String> =
            all.iter().map(|budget| format!("{} has {} MiB", budget.flag, budget.bytes() / MIB)).collect();
        format!(
            "the memory of the control group is limited to {} MiB, and the budgets need up to {} MiB: {}, unfinished requests have {} MiB, \
             the process has {} MiB; the system can kill the process: lower the budgets, or raise the limit (MemoryMax= of systemd, --memory \
             of docker, resources.limits.memory of Kubernetes)",
            memory / MIB,
            sum / MIB,
            parts.join(", "),
            unfinished / MIB,
            BASE / MIB,
        )
    });
    Fitted { unfinished_requests: usize::try_from(unfinished).unwrap_or(usize::MAX), shortage }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The budgets of `serve` in bytes, and the warning.
    fn fitted(memory: Option<u64>, set: &[&str]) -> (u64, u64, Option<String>) {
        let (answers, queued, fitted) = fitted_all(memory, set);
        (answers, queued, fitted.shortage)
    }

    fn fitted_all(memory: Option<u64>, set: &[&str]) -> (u64, u64, Fitted) {
        let (mut answers, mut queued) = (65_536, 256 << 20);
        let mut all = [
            Budget { flag: "--a", id: "a", value: &mut answers, unit: KIB, least: MIB },
            Budget { flag: "--b", id: "b", value: &mut queued, unit: 1, least: MIB },
        ];
        let fitted = fit(&mut all, memory, &|id| !set.contains(&id));
        (answers as u64 * KIB, queued as u64, fitted)
    }

    /// The memory in MiB, and the bytes of unfinished requests. A call does not depend on the calls before it.
    #[test]
    fn unfinished_requests_get_a_share_of_the_memory() {
        for (memory, unfinished) in [
            (None, 64 << 20),
            (Some(48), 2 << 20),
            (Some(8), 1 << 20),
            (Some(288), 32 << 20),
            (Some(4_096), 64 << 20),
        ] {
            let fitted = fitted_all(memory.map(|memory: u64| memory * MIB), &[]).2;
            assert_eq!(fitted.unfinished_requests, unfinished, "{memory:?}");
        }
    }

    #[test]
    fn defaults_follow_the_limit_and_explicit_values_above_it_are_reported_with_figures() {
        for memory in [None, Some(64 << 30)] {
            assert_eq!(fitted(memory, &[]), (64 * MIB, 256 * MIB, None), "{memory:?}");
        }
        for memory in [48, 64, 96, 128, 256, 512, 1_024, 4_096] {
            let (answers, queued, warning) = fitted(Some(memory * MIB), &[]);
            assert_eq!(warning, None, "{memory}");
            assert!(answers >= MIB && queued >= MIB && answers + queued <= memory * MIB / 2, "{memory}");
        }
        let (answers, queued, warning) = fitted(Some(64 * MIB), &["a"]);
        assert_eq!((answers, queued), (64 * MIB, 4 * MIB));
        let warning = warning.expect("64 MiB do not fit");
        for part in ["limited to 64 MiB", "--a has 64 MiB", "--b has 4 MiB", "process has 32 MiB"] {
            assert!(warning.contains(part), "{part}: {warning}");
        }
        let (_, queued, warning) = fitted(Some(300 * MIB), &["b"]);
        assert_eq!(queued, 256 * MIB);
        assert!(warning.is_some_and(|warning| warning.contains("--b has 256 MiB")));
        assert_eq!(fitted(Some(1_024 * MIB), &["a", "b"]).2, None);
    }
}
