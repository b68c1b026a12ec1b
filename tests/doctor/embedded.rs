//! Findings about the files of the embedded store. The doctor changes no file, also while a server runs.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{PermissionsExt, chown, symlink},
    path::Path,
    process::{Command, Output, Stdio},
    time::SystemTime,
};

use tempfile::TempDir;

use super::{check_finding, examine};
use crate::{
    config::text,
    support::{TestServer, program},
};

const USERS: &str = "users.sqlite3";
const SESSIONS: &str = "sessions.sqlite3";
const CHAT: &str = "chat.sqlite3";

/// The content, the mode and the time of the last change of each file, by its path.
type Files = BTreeMap<String, (Vec<u8>, u32, SystemTime)>;

fn files(directory: &Path) -> Files {
    let mut files = Files::new();
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        let about = fs::symlink_metadata(&path).expect("a file");
        let shown = path.display().to_string();
        if about.is_dir() {
            files.extend(self::files(&path));
        }
        let content = if about.is_file() { fs::read(&path).expect("a file") } else { Vec::new() };
        files.insert(shown, (content, about.permissions().mode(), about.modified().expect("a time")));
    }
    files
}

/// The data directory of a server that has stored a message. It was stopped, or killed with a log.
async fn data(is_killed: bool) -> TempDir {
    let mut server = TestServer::start().await;
    server.connected_user("alice").await.send_message("hello").await;
    match is_killed {
        true => server.system.kill(),
        false => assert!(server.system.stop().await.success()),
    }
    let data = private_directory();
    for entry in fs::read_dir(server.system.data_dir()).expect("a directory") {
        let entry = entry.expect("a file");
        fs::copy(entry.path(), data.path().join(entry.file_name())).expect("a copy");
    }
    data
}

fn private_directory() -> TempDir {
    let directory = TempDir::new().expect("a temporary directory");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700)).expect("a change");
    directory
}

/// A copy of the files in `data`.
fn copy(data: &Path) -> TempDir {
    let copy = private_directory();
    for entry in fs::read_dir(data).expect("a directory") {
        let entry = entry.expect("a file");
        fs::copy(entry.path(), copy.path().join(entry.file_name())).expect("a copy");
    }
    copy
}

/// Runs the doctor on this data directory, which it must not change.
fn examine_data(data: &Path) -> Output {
    let before = files(data);
    let output = examine("serve", &["--data-dir", &data.to_string_lossy()], &private_directory());
    assert!(files(data) == before, "the doctor changes nothing: {}", text(&output));
    output
}

fn execute(file: &Path, sql: &str) {
    let conn = rusqlite::Connection::open(file).expect("a database");
    conn.execute_batch(&format!("PRAGMA journal_mode = DELETE; {sql}")).expect("a change");
    conn.close().expect("a close");
}

/// A change of the files: what it is, the change, and the words of the finding.
type Row = (String, Box<dyn Fn(&Path)>, [&'static str; 3]);

const OF_ONE_STORE: &str = "restore all files of one backup";

fn row(
    what: impl Into<String>,
    change: impl Fn(&Path) + 'static,
    name: &'static str,
    remedy: &'static str,
) -> Row {
    (what.into(), Box::new(change), [name, remedy, "--data-dir"])
}

/// Changes of one file.
fn changes_of(name: &'static str) -> [Row; 6] {
    let write =
        |content: &'static [u8]| move |data: &Path| fs::write(data.join(name), content).expect("a change");
    let remove = move |data: &Path| fs::remove_file(data.join(name)).expect("a change");
    let truncate = move |data: &Path| {
        let file = fs::File::options().write(true).open(data.join(name)).expect("a file");
        file.set_len(file.metadata().expect("a file").len() / 2).expect("a change");
    };
    let newer = move |data: &Path| execute(&data.join(name), "PRAGMA user_version = 999");
    [
        row(format!("newer {name}"), newer, "has schema 999", "use a newer version"),
        row(format!("no {name}"), remove, "is missing or empty beside", OF_ONE_STORE),
        row(format!("empty {name}"), write(b""), name, OF_ONE_STORE),
        row(format!("half of {name}"), truncate, "is truncated", "Restore a backup"),
        row(format!("text in {name}"), write(&[b'x'; 4_096]), "is not a SQLite database", "Restore a backup"),
        row(format!("a word in {name}"), write(b"x"), "it has 1 bytes", "Restore a backup"),
    ]
}

/// Other changes.
fn other_changes() -> [Row; 4] {
    let link = |data: &Path| {
        fs::rename(data.join(CHAT), data.join("moved")).expect("a change");
        symlink(data.join("moved"), data.join(CHAT)).expect("a change");
    };
    let directory = |data: &Path| {
        fs::remove_file(data.join(CHAT)).expect("a change");
        fs::create_dir(data.join(CHAT)).expect("a change");
    };
    let group = |data: &Path| {
        let other = "UPDATE store_state SET value = '0123456789abcdef' WHERE key = 'group'";
        execute(&data.join(USERS), other);
    };
    let open = |data: &Path| {
        execute(&data.join(CHAT), "INSERT INTO store_state VALUES ('open', '0123456789abcdef')");
    };
    [
        row("a link", link, "it is a symbolic link", "move the file into it"),
        row("a directory", directory, "it is a directory", "remove it"),
        row("another store", group, "are files of different stores", OF_ONE_STORE),
        row("lost transactions", open, "lost committed data", "Restore a backup"),
    ]
}

#[tokio::test]
async fn what_a_start_refuses_in_the_files_is_reported_with_the_remedy() {
    let data = data(false).await;
    assert_eq!(text(&examine_data(data.path())), "no findings\n");
    let rows = [USERS, SESSIONS, CHAT].into_iter().flat_map(changes_of).chain(other_changes());
    for (what, change, words) in rows {
        let data = copy(data.path());
        change(data.path());
        let output = examine_data(data.path());
        check_finding(&output, "error", &words);
        assert!(!output.status.success(), "{what}");
        // In the private subdirectory of a volume it is the same.
        let volume = private_directory();
        let inside = volume.path().join("godzilla");
        fs::rename(data.path(), &inside).expect("one filesystem");
        check_finding(&examine_data(volume.path()), "error", &words);
    }
}

/// A store that was not closed has a log, which a start reads.
#[tokio::test]
async fn a_store_with_a_log_has_no_findings_and_its_damaged_log_is_reported() {
    let data = data(true).await;
    let log = data.path().join(format!("{CHAT}-wal"));
    assert!(fs::metadata(&log).expect("a log").len() > 0);
    assert_eq!(text(&examine_data(data.path())), "no findings\n");
    fs::remove_file(&log).expect("a change");
    check_finding(&examine_data(data.path()), "error", &[CHAT, "lost committed data", "Restore a backup"]);
}

#[tokio::test]
async fn the_files_of_a_running_server_are_examined_without_a_change() {
    let server = TestServer::start().await;
    server.connected_user("alice").await.send_message("hello").await;
    let data = server.system.data_dir();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).expect("a change");
    let names = |data: &Path| files(data).into_keys().collect::<Vec<_>>();
    let before = names(&data);
    for _ in 0..5 {
        let arguments = ["--data-dir", &*data.to_string_lossy()].map(str::to_owned);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let output = examine("serve", &arguments, &private_directory());
        check_finding(&output, "error", &["in use by a running server"]);
        assert_eq!(text(&output).lines().count(), 2, "{}", text(&output));
    }
    assert_eq!(names(&data), before);
    let socket = &mut server.connected_user("bob").await;
    socket.send_message("the server still writes").await;
}

/// The doctor as another user than root, on a copy of the store whose directory belongs to that user.
#[tokio::test]
async fn files_of_another_user_are_reported_with_the_owner() {
    const OTHER: u32 = 65_534;
    let setpriv = |program: &str| {
        let mut command = Command::new("setpriv");
        command.args([&format!("--reuid={OTHER}"), "--regid=65534", "--clear-groups"]).arg(program);
        command
    };
    let program = program().get_program().to_string_lossy().into_owned();
    let can_run = setpriv("test").args(["-x", &program]).status().is_ok_and(|status| status.success());
    if !nix::unistd::geteuid().is_root() || !can_run {
        return;
    }
    let data = data(false).await;
    for name in [USERS, SESSIONS, CHAT] {
        let data = copy(data.path());
        for entry in fs::read_dir(data.path()).expect("a directory") {
            let path = entry.expect("a file").path();
            let owner = (!path.ends_with(name)).then_some(OTHER);
            chown(&path, owner, owner).expect("root changes owners");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a change");
        }
        chown(data.path(), Some(OTHER), Some(OTHER)).expect("root changes owners");
        let mut command = setpriv(&program);
        command.args(["doctor", "serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
        command.args(["--presence-listen", "127.0.0.1:0", "--data-dir"]).arg(data.path());
        let output = command.stdin(Stdio::null()).output().expect("the program starts");
        check_finding(
            &output,
            "error",
            &[name, "user 65534 may not write to", "user 0 (mode 600)", "chown it"],
        );
    }
}

#[tokio::test]
async fn a_read_only_mount_is_reported_and_no_owner() {
    let data = data(false).await;
    let program = program().get_program().to_string_lossy().into_owned();
    let script = format!(
        "mount --bind \"$0\" \"$0\" && mount -o remount,ro,bind \"$0\" && \"{program}\" doctor serve --listen 127.0.0.1:0 \
         --admin-listen 127.0.0.1:0 --presence-listen 127.0.0.1:0 --data-dir \"$0\""
    );
    let isolated = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]).arg(data.path());
        command.output().expect("util-linux is installed")
    };
    // Mounts need rights that a container may lack.
    if !isolated("mount --bind \"$0\" \"$0\" && mount -o remount,ro,bind \"$0\"").status.success() {
        return;
    }
    let output = isolated(&script);
    check_finding(&output, "error", &["--data-dir", "is read-only", "mount it read-write"]);
    assert!(!text(&output).contains("chown"), "{}", text(&output));
}
