//! The machine: its clock, its random numbers, and the limits of the process.

use std::time::{Duration, SystemTime};

use nix::sys::resource::{Resource, getrlimit};

use super::Finding;
use crate::{
    entropy,
    limits::{self, Needs},
};

/// Seconds from 1970 to 2025. This program did not exist earlier.
const EARLIEST: u64 = 1_735_689_600;

/// Seconds from 1970 to 2100.
const LATEST: u64 = 4_102_444_800;

/// Recommended limit of open files: a thousand clients and a reserve.
const RECOMMENDED: u64 = 4_096;

pub fn examine(needs: Needs) -> Vec<Finding> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let most = getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(_, hard)| hard);
    let entropy = entropy::not_ready_reason().map(|text| Finding::error("random numbers", text));
    let limits: Vec<_> =
        limits::shortages(needs).into_iter().map(|text| Finding::error("limits", text)).collect();
    let descriptors = examine_descriptors(most).filter(|_| limits.is_empty());
    examine_clock(now.as_secs()).into_iter().chain(descriptors).chain(entropy).chain(limits).collect()
}

fn examine_clock(now: u64) -> Option<Finding> {
    let is_plausible = (EARLIEST..LATEST).contains(&now);
    let at = humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + Duration::from_secs(now.min(LATEST)));
    (!is_plausible).then(|| {
        Finding::error(
            "clock",
            format!("this machine has the time {at}; set its clock (`timedatectl set-ntp true`)"),
        )
    })
}

fn examine_descriptors(most: u64) -> Option<Finding> {
    let text = format!(
        "the process may open {most} files, and every client takes one; raise the limit \
         (`ulimit -n`, LimitNOFILE= of systemd, --ulimit of docker)"
    );
    (most < RECOMMENDED).then(|| Finding::warning("open files", text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_implausible_clock_and_a_low_limit_are_reported() {
        for (now, is_found) in [(0, true), (EARLIEST - 1, true), (EARLIEST, false), (LATEST, true)] {
            assert_eq!(examine_clock(now).is_some(), is_found, "{now}");
        }
        let severities =
            [100, 1_024, 1 << 20].map(|most| examine_descriptors(most).map(|found| found.severity));
        assert_eq!(
            severities,
            [Some(super::super::Severity::Warning), Some(super::super::Severity::Warning), None]
        );
    }
}
