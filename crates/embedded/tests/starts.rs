//! What a start reports when the system refuses it something: the cause and the remedy, not SQLite's summary of it. The system's
//! errors are injected by `strace`, which `scripts/test` installs.
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
fn a_refused_start_names_the_cause_and_what_helps() {
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
        ("fchmod,chmod:error=EPERM", "", "chown"),
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
                // The files are another user's.
                assert!(run("touch words.sqlite3 words.sqlite3.lock; chmod 666 words.*").status.success());
            }
            let file = directory.path().join(format!("words.sqlite3{suffix}"));
            // Of `openat` only that of one file fails, by whichever of its paths it is opened.
            let paths = match injected.starts_with("openat") {
                true => format!("-P {} -P words.sqlite3{suffix}", file.display()),
                false => String::new(),
            };
            let trace = "strace -f -qq -o /dev/null -e trace=openat,pwrite64,ftruncate,fchmod,chmod";
            let ended = run(&format!("{trace} {paths} -e inject={injected} \"$0\" opens"));
            let said = String::from_utf8_lossy(&ended.stdout).into_owned();
            if ended.status.success() && !is_new {
                // What is there already may suffice.
                continue;
            }
            assert!(said.contains(expected), "{injected} {suffix}, new {is_new}: {said}");
            assert!(!said.contains("disk I/O error"), "{injected} {suffix}, new {is_new}: {said}");
        }
    }
}

/// Fails each call of one kind in turn, and all later ones, while the store is opened. Without the lock file the next start finds
/// what it finds after a start of the machine: no note that is up to date.
#[test]
fn a_start_that_fails_at_any_step_leaves_a_store_that_the_next_one_accepts() {
    // Whether any of the calls is needed for a start: without the notes about the opening a store works.
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

/// Whether the start failed.
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
    let said = String::from_utf8_lossy(&next.stdout);
    assert!(next.status.success(), "{calls} {nth}, without lock {without_lock}: {said}");
    !injected.status.success()
}
