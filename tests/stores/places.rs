//! Data directories with special permissions.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use tempfile::TempDir;

use super::{FILES, stopped, text, tool};
use crate::support::TestServer;

#[tokio::test]
async fn in_the_root_of_a_volume_a_directory_inside_it_is_used() {
    let root = TempDir::new().expect("a temporary directory");
    let data = root.path().join("volume");
    fs::create_dir(&data).expect("a new directory");
    fs::create_dir(data.join("lost+found")).expect("a new directory");
    fs::set_permissions(&data, fs::Permissions::from_mode(0o777)).expect("a change");
    let seeded = tool("", &["seed", "--bcrypt-cost", "4"], &data);
    assert!(seeded.status.success() && text(&seeded).contains("private subdirectory"), "{}", text(&seeded));
    let inside = fs::metadata(data.join("godzilla")).expect("a directory");
    assert_eq!(inside.permissions().mode() & 0o777, 0o700);
    let checked = tool("", &["check"], &data);
    assert!(checked.status.success(), "{}", text(&checked));
    fs::copy(data.join("godzilla").join(FILES[0]), data.join(FILES[0])).expect("a copy");
    let both = tool("", &["seed"], &data);
    assert!(!both.status.success() && text(&both).contains("another one"), "{}", text(&both));
}

/// Shell code that runs a program as a user without permission to enter the directory.
fn without_permission(data: &Path) -> String {
    if !nix::unistd::Uid::effective().is_root() {
        return "chmod 0 \"$4\"; ".to_owned();
    }
    std::os::unix::fs::chown(data, Some(65_534), Some(65_534)).expect("root has the permission");
    fs::set_permissions(data, fs::Permissions::from_mode(0o700)).expect("root has the permission");
    "exec setpriv --bounding-set=-all --inh-caps=-all ".to_owned()
}

#[tokio::test]
async fn the_tools_report_a_directory_without_permission() {
    let (root, data) = stopped().await;
    let before = without_permission(&data).replace("$4", &data.to_string_lossy());
    let to = root.path().join("to");
    for arguments in [&["check"][..], &["seed"], &["backup", to.to_str().expect("a UTF-8 path")]] {
        let ended = tool(&before, arguments, &data);
        let printed = text(&ended);
        assert!(!ended.status.success() && printed.contains("permission denied"), "{arguments:?}: {printed}");
    }
    fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).expect("a change");
}

/// Shell code that makes a data directory without a store, beside which no tool may make one.
const WITHOUT_STORE: [&str; 8] = [
    "true",
    "mkdir data",
    "mkdir data && touch data/notes.txt",
    "mkdir data && touch data/users.sqlite3.lock",
    "mkdir data && touch data/chat.sqlite3-wal",
    "mkdir -p data/godzilla",
    "mkdir data && chmod 777 data",
    "touch data",
];

#[test]
fn a_tool_on_a_directory_without_a_store_fails_and_makes_nothing() {
    for script in WITHOUT_STORE {
        let root = TempDir::new().expect("a temporary directory");
        let run = |script: &str| {
            let mut shell = Command::new("sh");
            let output = shell.arg("-c").arg(script).current_dir(root.path()).output().expect("a shell");
            assert!(output.status.success(), "{script}");
            text(&output)
        };
        run(script);
        let before = run("find . -printf '%p %s %m\\n' | sort");
        let to = root.path().join("to");
        let to = to.to_str().expect("a UTF-8 path");
        for arguments in [&["check"][..], &["check", "--accept-loss"], &["backup", to]] {
            let ended = tool("", arguments, &root.path().join("data"));
            let printed = text(&ended);
            assert_eq!(ended.status.code(), Some(1), "{script}: {arguments:?}: {printed}");
            if arguments[0] == "check" {
                assert!(printed.contains("there is no store in"), "{script}: {arguments:?}: {printed}");
            }
            assert_eq!(
                run("find . -printf '%p %s %m\\n' | sort"),
                before,
                "{script}: {arguments:?}: {printed}"
            );
        }
    }
}

#[tokio::test]
async fn the_files_of_a_running_server_cannot_be_used_by_another_name() {
    let server = TestServer::start().await;
    let data = server.system.data_dir();
    let root = TempDir::new_in(data.parent().expect("a directory above")).expect("a directory");
    // Shell code that makes the directory `other` from the data directory.
    for (number, script) in
        ["cp -al \"$0\" other && rm other/*.lock", "mkdir other && ln \"$0\"/*.sqlite3 other"]
            .into_iter()
            .enumerate()
    {
        let at = root.path().join(number.to_string());
        fs::create_dir(&at).expect("a new directory");
        let made = Command::new("sh").arg("-c").arg(script).arg(&data).current_dir(&at).status();
        assert!(made.expect("a shell").success(), "{script}");
        let other = at.join("other");
        fs::set_permissions(&other, fs::Permissions::from_mode(0o700)).expect("a change");
        for (arguments, part) in [
            (&["doctor", "serve", "--listen=127.0.0.1:0"][..], "in use by a running server"),
            (&["seed", "--bcrypt-cost", "4"], "is in use by another process"),
            (&["check", "--accept-loss"], "is in use by another process"),
            (&["doctor", "serve", "--listen=127.0.0.1:0"], "in use by a running server"),
        ] {
            let ended = tool("", arguments, &other);
            assert!(!ended.status.success(), "{script}: {arguments:?}: {}", text(&ended));
            assert!(text(&ended).contains(part), "{script}: {arguments:?}: {}", text(&ended));
        }
    }
    server.user("alice").await;
}
