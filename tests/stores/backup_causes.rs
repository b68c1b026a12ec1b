//! Backups that fail name the cause, the directory and a remedy, and leave nothing.

use std::{fs, path::Path, process::Command};

use super::{FILES, names, stopped, text};
use crate::support::program;

/// Runs `backup` with shell code in front of it, which can use `$DATA`, the directory of the store.
fn back_up(before: &str, to: &str, data: &Path, at: &Path) -> std::process::Output {
    let script = format!("{before} \"$0\" backup {to} --data-dir \"$DATA\"");
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(script).arg(program().get_program()).current_dir(at).env_clear();
    shell.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("DATA", data);
    shell.output().expect("the tool starts")
}

/// Shell code before the backup, the argument, and the words of the message.
type Row = (String, &'static str, [&'static str; 3]);

/// The backups that fail, as far as the user of the tests can make them fail.
fn failing() -> Vec<Row> {
    let full = "mkdir to; mount -t tmpfs -o size=16k none to &&";
    let mounted = "exec unshare --user --map-root-user --mount sh -c";
    let inside = |script: &str, to: &str| {
        format!(
            "{mounted} '{script} \"$0\" backup {to} --data-dir \"$DATA\"; code=$?; ls -A to >&2; exit $code' \"$0\"; :"
        )
    };
    let can_mount = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"])
        .status()
        .is_ok_and(|status| status.success());
    let limit = ["the file size limit", "ulimit -f", "name another directory"];
    let kernel = ["a filesystem of the kernel", "name a directory on a disk", "no backup was made"];
    let space = ["no space left on the filesystem of", "make room", "name another directory"];
    let mut rows: Vec<Row> = vec![
        ("exec prlimit --fsize=20480".to_owned(), "small", limit),
        ("exec prlimit --fsize=4096".to_owned(), "small", limit),
        ("exec prlimit --fsize=0".to_owned(), "small", limit),
        ("exec".to_owned(), "/proc/copy", kernel),
        ("exec".to_owned(), "/proc/self/copy/copy", kernel),
        ("exec".to_owned(), "/sys/copy", kernel),
        ("mkdir to; touch to/x; exec".to_owned(), "to", ["to: it is not empty", "empty or absent", ""]),
        ("exec".to_owned(), "/dev/null/copy", ["/dev/null/copy", "name a directory on a disk", ""]),
    ];
    if can_mount {
        rows.push((inside(full, "to"), "to", space));
        rows.push((inside(full, "to/copy"), "to/copy", space));
        let inodes = "mkdir to; mount -t tmpfs -o nr_inodes=4 none to &&";
        rows.push((
            inside(inodes, "to/copy"),
            "to/copy",
            ["no inodes are left", "remove files", "name another"],
        ));
        let read_only = "mkdir to; mount --bind to to && mount -o remount,ro,bind to &&";
        rows.push((
            inside(read_only, "to"),
            "to",
            ["/to is read-only", "mount it read-write", "or name a directory"],
        ));
    }
    if nix::unistd::geteuid().is_root() {
        // Root without its rights may not write to directories of other users.
        let other = "mkdir to; chown 65534 to; exec setpriv --bounding-set=-all --inh-caps=-all";
        rows.push((
            other.to_owned(),
            "to/copy",
            ["may not write to", "chown it to 0", "or name a directory"],
        ));
    }
    rows
}

#[tokio::test]
async fn a_failed_backup_names_the_cause_the_directory_and_a_remedy_and_leaves_nothing() {
    let (root, data) = stopped().await;
    let before = names(&data);
    for (number, (script, to, words)) in failing().into_iter().enumerate() {
        let at = root.path().join(format!("failed-{number}"));
        fs::create_dir(&at).expect("a new directory");
        let made = back_up(&script, to, &data, &at);
        let printed = text(&made);
        assert_eq!(made.status.code(), Some(1), "{script} {to}: no signal ends it: {printed}");
        assert!(words.iter().all(|word| printed.contains(word)), "{script} {to}: {words:?} in {printed}");
        let shown = printed.lines().find(|line| line.contains("no backup was made")).expect("a message");
        assert!(!shown.contains("partial-"), "the name of a removed directory: {shown}");
        let left = Command::new("find").arg(&at).output().expect("find");
        let left = String::from_utf8_lossy(&left.stdout).into_owned() + &printed.replace(shown, "");
        assert!(!left.contains("partial-") && !left.contains(FILES[0]), "{script} {to}: {left}");
    }
    assert_eq!(names(&data), before);
}
