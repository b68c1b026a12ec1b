//! Backups: their content, the places they can be written to, and interrupted ones.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{FILES, names, reconnect, stopped, text, tool};
use crate::support::{TestServer, program, with_timeout};

#[tokio::test]
async fn a_backup_of_a_running_server_is_complete_and_later_positions_are_refused() {
    let mut server = TestServer::start().await;
    let mut alice = server.connected_user("alice").await;
    for number in 1..=5 {
        alice.send_message(&format!("stored {number}")).await;
    }
    let root = TempDir::new().expect("a temporary directory");
    let (data, copy) = (server.system.data_dir(), root.path().join("copy"));
    let made = tool("", &["backup", copy.to_str().expect("a UTF-8 path")], &data);
    assert!(made.status.success(), "{}", text(&made));
    let checked = tool("", &["check"], &data);
    assert!(checked.status.success(), "while the server runs: {}", text(&checked));
    for number in 6..=9 {
        alice.send_message(&format!("later {number}")).await;
    }
    let mut bob = server.connected_user("bob").await;
    alice.send_message("later 10").await;
    bob.receive_message("later 10").await;
    let (pid, offset, old) = (bob.pid.clone(), bob.offset.clone(), alice.user.token().to_owned());

    server.system.kill();
    fs::rename(&data, data.with_extension("old")).expect("a change");
    fs::rename(&copy, &data).expect("one filesystem");
    server.system.restart().await;
    alice.user.get("/user/me").await.expect_refusal(401);
    let mut user = alice.user.clone();
    user.log_in().await;
    assert_ne!(user.token(), old);
    let texts = |messages: &[Value]| {
        messages
            .iter()
            .map(|message| message["data"]["text"].as_str().expect("a text").to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        texts(&user.read_history("lobby").await),
        (1..=5).map(|n| format!("stored {n}")).collect::<Vec<_>>()
    );

    // A user who registered after the backup registers again and sends a position of before the restore.
    bob.user.register().await;
    let mut bob = bob.user.clone();
    bob.log_in().await;
    let mut fresh = user.connect().await;
    let beyond = fresh.emit_with_ack("join", &json!({"room": "lobby", "since": 10})).await;
    assert_eq!(
        (&beyond["ok"], &beyond["reset"], &beyond["head"]),
        (&json!(true), &json!(true), &json!(5)),
        "{beyond}"
    );
    assert_eq!(texts(beyond["messages"].as_array().expect("messages")).len(), 5, "{beyond}");
    for number in 6..=12 {
        fresh.send_message(&format!("new {number}")).await;
    }
    let mut reconnected = reconnect(&bob, &pid, offset).await;
    assert_ne!(reconnected.pid, pid, "a position after the backup was accepted");
    let skipping = reconnected.emit_with_ack("join", &json!({"room": "lobby", "since": 10})).await;
    assert_eq!((&skipping["reset"], &skipping["head"]), (&json!(true), &json!(12)), "{skipping}");
    assert_eq!(texts(skipping["messages"].as_array().expect("messages")).len(), 12, "{skipping}");
    let continued = reconnected.emit_with_ack("join", &json!({"room": "lobby", "since": 10})).await;
    assert_eq!(texts(continued["messages"].as_array().expect("messages")), ["new 11", "new 12"]);
}

/// Runs `backup` with `to` as its argument in the directory `at`, and `check` on the copy; `before` is shell code in front of both.
fn back_up(before: &str, to: &str, data: &Path, at: &Path) -> Output {
    let script =
        format!("{before} \"$0\" backup {to} --data-dir {} && \"$0\" check --data-dir {to}", data.display());
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(script).arg(program().get_program()).current_dir(at).env_clear();
    shell.env("PATH", std::env::var_os("PATH").unwrap_or_default()).output().expect("the tool starts")
}

#[tokio::test]
async fn a_backup_is_written_to_every_usable_place_and_refused_with_a_remedy_elsewhere() {
    let (root, data) = stopped().await;
    // Shell code before the backup, the argument, the message of a refusal.
    let cases = [
        ("", "new", ""),
        ("", "new/", ""),
        ("", "not/yet/there", ""),
        ("", "./new", ""),
        ("mkdir to;", "to", ""),
        ("mkdir to;", "to/", ""),
        ("mkdir to; chmod 777 to;", "to", ""),
        ("mkdir to; cd to;", ".", ""),
        ("mkdir -p a/b; cd a/b;", "../../new", ""),
        ("mkdir to; mkdir to/lost+found;", "to", ""),
        ("mkdir to; ln -s to link;", "link", ""),
        ("mkdir to; ln -s \"$PWD/to\" link;", "link/", ""),
        ("mkdir to; ln -s to link;", "link/new", ""),
        ("ln -s nowhere link;", "link", "make that directory"),
        ("mkdir to; touch to/x;", "to", "empty or absent"),
        ("touch to;", "to", "not a directory"),
        ("touch to;", "to/new", "no backup was made"),
    ];
    for (number, (before, to, refused)) in cases.into_iter().enumerate() {
        let at = root.path().join(format!("at-{number}"));
        fs::create_dir(&at).expect("a new directory");
        let made = back_up(before, to, &data, &at);
        assert_eq!(made.status.success(), refused.is_empty(), "{before} {to}: {}", text(&made));
        assert!(text(&made).contains(refused), "{before} {to}: {}", text(&made));
        let left = Command::new("find").arg(&at).args(["-name", "*partial*"]).output().expect("find");
        assert!(left.stdout.is_empty(), "{before} {to}: {}", text(&left));
    }
    // Mount points, where this user may create them.
    let isolated = |script: &str, at: &Path| {
        let script = format!(
            "unshare --user --map-root-user --mount sh -c '{script}' {}",
            program().get_program().display()
        );
        Command::new("sh").arg("-c").arg(script).current_dir(at).output().expect("a shell")
    };
    let at = root.path().join("mounts");
    fs::create_dir_all(at.join("to")).expect("a new directory");
    if isolated("mount -t tmpfs none to", &at).status.success() {
        let data = data.display();
        let made = isolated(
            &format!(
                "mount -t tmpfs none to && \"$0\" backup to --data-dir {data} && \"$0\" check --data-dir to"
            ),
            &at,
        );
        assert!(made.status.success(), "a mount point: {}", text(&made));
        let made = isolated(
            &format!("mount -t tmpfs -o size=64k none to && \"$0\" backup to --data-dir {data}; ls -A to"),
            &at,
        );
        assert!(text(&made).contains("no backup was made"), "a small disk: {}", text(&made));
        let left = String::from_utf8_lossy(&made.stdout).into_owned();
        assert!(!left.contains("partial"), "a small disk: {left}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_during_writes_is_complete_and_contains_all_earlier_acked_messages() {
    let server = TestServer::start_with(&["--message-rate", "100000", "--message-burst", "100000"]).await;
    let mut writers = Vec::new();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    for name in ["alice", "bob", "carol", "dave"] {
        let mut socket = server.connected_user(name).await;
        let stopped = stopped.clone();
        writers.push(tokio::spawn(async move {
            let mut sent = 0;
            while !*stopped.borrow() {
                let ids: Vec<u64> = (0..32)
                    .map(|n| socket.request("message", &json!({"text": format!("{sent} {n}")})))
                    .collect();
                for id in ids {
                    let ack = socket.try_ack(id).await.expect("an ack");
                    assert_eq!(ack["ok"], true, "{ack}");
                    sent += 1;
                }
            }
            sent
        }));
    }
    let reader = server.user("erin").await;
    let root = TempDir::new().expect("a temporary directory");
    let mut acked = 0;
    for round in 0..3 {
        let newest = reader.get("/rooms/lobby/messages?limit=1").await.json();
        acked = newest["messages"][0]["seq"].as_i64().unwrap_or_default().max(acked);
        let (data, to) = (server.system.data_dir(), root.path().join(format!("copy-{round}")));
        let made = tokio::task::spawn_blocking({
            let to = to.clone();
            move || tool("", &["backup", to.to_str().expect("a UTF-8 path")], &data)
        });
        let made = made.await.expect("no panic");
        assert!(made.status.success(), "round {round}: {}", text(&made));
        let conn = rusqlite::Connection::open(to.join(FILES[2])).expect("a copy");
        let shape = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?));
        let (count, last) =
            conn.query_row("SELECT count(*), max(seq) FROM messages", [], shape).expect("messages");
        assert!(
            count == last && last >= acked,
            "round {round}: {count} messages up to {last}, {acked} acked"
        );
    }
    stop.send(true).expect("running writers");
    let mut sent = 0;
    for writer in writers {
        sent += writer.await.expect("writers fail only by an assertion");
    }
    assert!(sent > 500, "only {sent} messages: this was no load");
}

#[tokio::test]
async fn a_backup_into_the_data_directory_is_refused() {
    let (root, data) = stopped().await;
    fs::create_dir(data.join("made")).expect("a new directory");
    std::os::unix::fs::symlink(&data, root.path().join("link")).expect("a new link");
    let before = names(&data);
    for to in ["data/backup", "data/not/yet", "data/made", "data/made/../backup", "data", "link/backup"] {
        let made = tool("", &["backup", root.path().join(to).to_str().expect("a UTF-8 path")], &data);
        assert!(!made.status.success(), "{to}");
        assert!(text(&made).contains("inside the data directory"), "{to}: {}", text(&made));
        assert_eq!(names(&data), before, "{to}");
    }
}

/// A backup that blocks on its unread standard output, with its partial copy; and the reader of that output.
async fn unfinished(data: &Path, to: &Path) -> (std::process::Child, std::io::PipeReader) {
    use std::io::Write;
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    writer.write_all(&[b'.'; 65_536]).expect("the capacity of a pipe");
    let mut command = Command::new(program().get_program());
    command.arg("backup").arg(to).arg("--data-dir").arg(data).stdout(writer);
    let backup = command.spawn().expect("the tool starts");
    let parent = to.parent().expect("a directory");
    let prefix = format!(".{}.partial-", to.file_name().expect("a name").to_string_lossy());
    with_timeout("a partial copy", async {
        while !names(parent).iter().any(|name| name.starts_with(&prefix)) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    (backup, reader)
}

#[tokio::test]
async fn an_interrupted_backup_leaves_no_partial_copy() {
    let (root, data) = stopped().await;
    let partials = || names(root.path()).into_iter().filter(|name| name.contains("partial")).count();
    for (signal, number) in [("TERM", 15), ("INT", 2)] {
        let (mut backup, _unread) = unfinished(&data, &root.path().join("ended")).await;
        let kill = format!("kill -{signal} {}", backup.id());
        assert!(Command::new("sh").arg("-c").arg(kill).status().expect("a shell").success());
        assert_eq!(backup.wait().expect("a child process").code(), Some(128 + number), "{signal}");
        assert_eq!(partials(), 0, "{signal}: {:?}", names(root.path()));
    }
    let (mut killed, _unread) = unfinished(&data, &root.path().join("monday")).await;
    killed.kill().expect("a child process");
    killed.wait().expect("a child process");
    assert_eq!(partials(), 1, "a killed backup leaves its partial copy");
    let (mut running, _unread) = unfinished(&data, &root.path().join("tuesday")).await;
    let next = root.path().join("wednesday");
    let made = tool("", &["backup", next.to_str().expect("a UTF-8 path")], &data);
    assert!(made.status.success(), "{}", text(&made));
    let left = names(root.path());
    assert!(!left.iter().any(|name| name.starts_with(".monday")), "{left:?}");
    assert!(running.wait().expect("a child process").success(), "a running backup was disturbed: {left:?}");
    assert_eq!(partials(), 0);
}
