//! Memory budgets and the memory limit of the control group: the doctor and the start compare them.

use std::process::Stdio;

use tempfile::TempDir;

use super::group::Group;
use crate::config::text;

const MIB: u64 = 1 << 20;

#[test]
fn budgets_above_the_memory_limit_of_the_control_group_are_reported_with_figures() {
    // The limit in MiB, the flags, and the words of the warning. Empty: no warning.
    let table: [(u64, &[&str], &[&str]); 6] = [
        (64, &[], &[]),
        (256, &[], &[]),
        (
            64,
            &["--unread-answers", "65536"],
            &["limited to 64 MiB", "--unread-answers", "has 64 MiB", "MemoryMax="],
        ),
        (
            96,
            &["--queued-bytes", "268435456"],
            &["limited to 96 MiB", "--queued-bytes", "has 256 MiB", "--memory of docker"],
        ),
        (300, &["--queued-bytes", "268435456"], &["limited to 300 MiB", "has 256 MiB", "lower the budgets"]),
        (1_024, &["--queued-bytes", "268435456", "--unread-answers", "65536"], &[]),
    ];
    for (limit, flags, words) in table {
        let Some(group) = Group::new("memory", "memory.max", "memory.limit_in_bytes", limit * MIB) else {
            return;
        };
        let folder = TempDir::new().expect("a temporary directory");
        let mut command = group.command();
        command.args(["doctor", "serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
        command.args(["--presence-listen", "127.0.0.1:0", "--data-dir"]).arg(folder.path().join("data"));
        let output = command.args(flags).stdin(Stdio::null()).output().expect("a shell");
        let printed = text(&output);
        assert!(output.status.success(), "{limit} {flags:?}: {printed}");
        match words.is_empty() {
            true => assert_eq!(printed, "no findings\n", "{limit} {flags:?}"),
            false => {
                let fits = |line: &str| {
                    line.starts_with("warning: memory: ") && words.iter().all(|word| line.contains(word))
                };
                assert!(printed.lines().any(fits), "{limit} {flags:?}: {words:?} in {printed}");
            }
        }
    }
}
