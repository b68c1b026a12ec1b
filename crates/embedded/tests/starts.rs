//! The report of a start that fails for an error of the system: the cause and the remedy, and not SQLite's summary. The errors are
//! injected by `strace`, which `scripts/test` installs.
#![allow(clippy::unwrap_used)]

use std::{path::PathBuf, process::Command};

use tempfile::TempDir;

/// The example `second_process`, which cargo builds with the tests.
fn example() -> PathBuf {
    let this = std::env::current_exe().unwrap();
    let example = this.parent().and_then(std::path::Path::parent).unwrap().join("examples/second_process");
    assert!(example.exists(), "{} is built with the tests", example.display());
    example
}

#[test]
fn a_failed_start_reports_the_cause_and_the_remedy() {
    let cases = [
        ("pwrite64:error=ENOSPC:when=1+", "", "no space left on"),
        ("pwrite64:error=ENOSPC:when=2+", "", "no space left on"),
        ("pwrite64:error=EDQUOT:when=1+", "", "quota"),
        ("pwrite64:error=EFBIG:when=1+", "", "ulimit -f"),
        ("ftruncate,pwrite64:error=EROFS:when=1+", "", "read-only"),
        ("openat:error=EROFS", ".lock", "read-only"),
        ("openat:error=ENOSPC", ".lock", "no space left on"),
        ("openat:error=EACCES", "", "chown"),
        ("openat:error=EACCES", "-shm", "chown"),
        ("openat:error=EACCES", "-wal", "chown"),
        ("fchmod,chmod:error=EPERM", "", "chattr -i"),
    ];
    for (injected, suffix, expected) in cases {
        for is_new in [true, false] {
            let directory = TempDir::new().unwrap();
            let run = |script: &str| {
                let mut shell = Command::new("sh");
                shell.arg("-c").arg(script).arg(example()).current_dir(directory.path()).output().unwrap()
            };
            if !is_new {
                assert!(run("\"$0\" dies").status.success());
            }
            if injected.contains("chmod") {
                // As if the files were immutable.
                assert!(run("touch words.sqlite3 words.sqlite3.lock; chmod 666 words.*").status.success());
            }
            let file = directory.path().join(format!("words.sqlite3{suffix}"));
            // `openat` fails only for one file, which may be opened by its absolute or its relative path.
            let paths = match injected.starts_with("openat") {
                true => format!("-P {} -P words.sqlite3{suffix}", file.display()),
                false => String::new(),
            };
            let trace = "strace -f -qq -o /dev/null -e trace=openat,pwrite64,ftruncate,fchmod,chmod";
            let ended = run(&format!("{trace} {paths} -e inject={injected} \"$0\" opens"));
            let output = String::from_utf8_lossy(&ended.stdout).into_owned();
            if ended.status.success() && !is_new {
                // An existing store may not need the injected call.
                continue;
            }
            assert!(output.contains(expected), "{injected} {suffix}, new {is_new}: {output}");
            assert!(!output.contains("disk I/O error"), "{injected} {suffix}, new {is_new}: {output}");
        }
    }
}

/// Fails each call of one kind, and all later ones, while the store is opened. The next start without the lock file is like the next
/// start after a restart of the machine: the record is not up to date.
#[test]
fn a_start_that_fails_at_any_step_leaves_a_store_that_the_next_start_accepts() {
    // The call, its error, and whether a start needs the call. A start does not need the calls that write the records of the opening.
    for (calls, error, is_needed) in [
        ("openat", "EMFILE", true),
        ("clone3,clone", "EAGAIN", true),
        ("pwrite64", "ENOSPC", false),
        ("fsync,fdatasync", "EIO", false),
        ("rename", "EACCES", false),
    ] {
        for without_lock in [false, true] {
            let failed = (1..60).take_while(|nth| fails_and_then_starts(calls, error, *nth, without_lock));
            assert!(failed.count() > 0 || !is_needed, "{calls}");
        }
    }
}

/// Fails the call from its `nth` use on, and checks that the next start succeeds. Returns whether the start failed.
fn fails_and_then_starts(calls: &str, error: &str, nth: u32, without_lock: bool) -> bool {
    let directory = TempDir::new().unwrap();
    let run = |script: &str| {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(script).arg(example()).current_dir(directory.path()).output().unwrap()
    };
    assert!(run("\"$0\" ends").status.success());
    let files = ["", "-wal", "-shm", ".lock", ".run", ".run.next"].map(|suffix| {
        let file = directory.path().join(format!("words.sqlite3{suffix}"));
        format!("-P {} -P words.sqlite3{suffix}", file.display())
    });
    let paths = if calls.contains("clone") { String::new() } else { files.join(" ") };
    let inject = format!("-e trace={calls} -e inject={calls}:error={error}:when={nth}+");
    let injected = run(&format!("strace -f -qq -o /dev/null {paths} {inject} \"$0\" ends"));
    if without_lock {
        std::fs::remove_file(directory.path().join("words.sqlite3.lock")).unwrap();
    }
    let next = run("\"$0\" opens");
    let output = String::from_utf8_lossy(&next.stdout);
    assert!(next.status.success(), "{calls} {nth}, without lock {without_lock}: {output}");
    !injected.status.success()
}

/// Kills the process at each call that changes a file while it starts, works and closes the store. The next start accepts the store, and
/// reports no loss and no log of another database.
#[test]
fn a_process_that_is_killed_at_any_step_leaves_a_store_that_the_next_start_accepts() {
    for (calls, suffix) in [
        ("pwrite64", ""),
        ("pwrite64", "-wal"),
        ("ftruncate", ""),
        ("ftruncate", "-wal"),
        ("fsync,fdatasync", ""),
        ("unlink,unlinkat", "-wal"),
        ("pwrite64", ".lock"),
    ] {
        let killed = (1..100).take_while(|nth| is_killed_and_then_starts(calls, suffix, *nth));
        assert!(killed.count() > 0, "{calls} of {suffix}: no call is used");
    }
}

/// Kills the process when a thread uses one of these calls for the `nth` time on the file with this suffix, and checks that the next starts
/// succeed. Returns whether the process was killed.
fn is_killed_and_then_starts(calls: &str, suffix: &str, nth: u32) -> bool {
    let directory = TempDir::new().unwrap();
    let run = |script: &str| {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(script).arg(example()).current_dir(directory.path()).output().unwrap()
    };
    assert!(run("\"$0\" ends").status.success());
    let file = directory.path().join(format!("words.sqlite3{suffix}"));
    let inject = format!("-P {} -e trace={calls} -e inject={calls}:signal=KILL:when={nth}", file.display());
    let killed = run(&format!("strace -f -qq -o /dev/null {inject} \"$0\" writes-and-ends"));
    for command in ["opens", "ends", "opens"] {
        let next = run(&format!("\"$0\" {command}"));
        let output = String::from_utf8_lossy(&next.stdout);
        assert!(next.status.success(), "killed at {calls} {nth} of {suffix}: {output}");
    }
    !killed.status.success()
}
