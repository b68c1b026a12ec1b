//! The embedded store of a running server while its files, its disk or its history change, and the tools that copy and check
//! it.

use std::{
    fs::{self, File},
    os::unix::fs::{FileExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Request, Socket, TestServer, TestUser, program, with_timeout};

const FILES: [&str; 3] = ["users.sqlite3", "sessions.sqlite3", "chat.sqlite3"];

/// Runs a tool on a data directory; `before` is shell code in front of the command.
fn tool(before: &str, arguments: &[&str], data: &Path) -> Output {
    let tool = program();
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("{before} \"$0\" \"$@\"")).arg(tool.get_program()).args(arguments);
    shell.arg("--data-dir").arg(data).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    shell.output().expect("the tool starts")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
}

/// Waits until `/readyz` reports 503, and returns its message.
async fn not_ready_reason(server: &TestServer) -> String {
    with_timeout("not ready", async {
        loop {
            let answer = Request::get("/readyz").send([127, 0, 0, 1].into(), server.system.admin).await;
            if answer.status == 503 {
                return answer.json()["message"].as_str().unwrap_or_default().to_owned();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}

async fn try_to_send(socket: &mut Socket, text: &str) -> Value {
    socket.emit_with_ack("message", &json!({"text": text})).await
}

#[tokio::test]
async fn a_clean_stop_leaves_no_write_ahead_log() {
    let mut server = TestServer::start().await;
    let mut alice = server.connected_user("alice").await;
    alice.send_message("before the stop").await;
    let bob = server.user("bob").await;
    bob.log_out().await;
    assert!(server.system.stop().await.success());
    for name in FILES.iter().flat_map(|file| ["-wal", "-shm"].map(|suffix| format!("{file}{suffix}"))) {
        assert!(!server.system.data_dir().join(&name).exists(), "{name} still exists");
    }
}

#[tokio::test]
async fn a_store_without_its_files_acks_nothing_and_is_not_ready() {
    type Change = fn(&Path);
    // The change of the data directory, and the part of the message of `/readyz`.
    let changes: [(&str, &str, Change); 4] = [
        ("directory removed", "chat has lost its files", |data| fs::remove_dir_all(data).expect("a change")),
        ("directory renamed", "users has lost its files", |data| {
            fs::rename(data, data.with_extension("old")).expect("a change");
        }),
        ("sessions replaced", "sessions has lost its files", |data| {
            fs::copy(data.join(FILES[1]), data.join("x")).expect("a change");
            fs::rename(data.join("x"), data.join(FILES[1])).expect("a change");
        }),
        ("log removed", "chat has lost its files", |data| {
            fs::remove_file(data.join("chat.sqlite3-wal")).expect("a change");
        }),
    ];
    for (what, named, change) in changes {
        let server = TestServer::start().await;
        let mut alice = server.connected_user("alice").await;
        alice.send_message("stored").await;
        change(&server.system.data_dir());
        let reason = not_ready_reason(&server).await;
        assert!(reason.contains(named), "{what}: {reason}");
        let login = alice.user.send(Request::post("/user/login", &alice.user.credentials())).await;
        let ack = try_to_send(&mut alice, "lost").await;
        if named.starts_with("sessions") {
            assert_eq!((login.status, &ack["ok"]), (503, &json!(true)), "{what}: {login:?}");
        } else {
            assert_eq!((&ack["ok"], &ack["code"]), (&json!(false), &json!("unavailable")), "{what}: {ack}");
        }
    }
}

/// Takes the write lock of a file as another program, which is the process of the test.
fn lock(file: &Path) -> rusqlite::Connection {
    let program = rusqlite::Connection::open(file).expect("a store");
    program.busy_timeout(Duration::from_secs(10)).expect("a setting");
    program.execute_batch("BEGIN IMMEDIATE").expect("a lock");
    program
}

#[tokio::test]
async fn a_lock_of_another_program_is_not_ready_and_logged_once_until_it_ends() {
    let server = TestServer::start().await;
    let mut alice = server.connected_user("alice").await;
    for (file, part) in FILES.into_iter().zip(["users", "sessions", "chat"]) {
        let program = lock(&server.system.data_dir().join(file));
        let register = json!({"username": format!("new{part}"), "password": "a long password"});
        let refused = match part {
            "users" => alice.user.send(Request::post("/user/register", &register)).await.status == 503,
            "sessions" => {
                alice.user.send(Request::post("/user/login", &alice.user.credentials())).await.status == 503
            }
            _ => try_to_send(&mut alice, "refused").await["code"] == json!("unavailable"),
        };
        assert!(refused, "{part}: a write is refused");
        let reason = not_ready_reason(&server).await;
        let expected = format!("{part} cannot be written: process {} (", std::process::id());
        assert!(reason.contains(&expected) && reason.contains(file), "{reason}");
        assert!(reason.contains("end its transaction") && reason.contains("(since 2"), "{reason}");
        let copy = TempDir::new().expect("a temporary directory");
        let to = copy.path().join("copy");
        let backup = tool("", &["backup", to.to_str().expect("UTF-8")], &server.system.data_dir());
        assert!(backup.status.success(), "{part}: a backup reads: {}", text(&backup));
        drop(program);
        with_timeout("ready", async {
            while !server.system.readiness(0).await.contains("ok") {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        for line in ["writes are refused until the cause has ended", "the store can be written again"] {
            let line = format!("{line} store=\"{part}\"");
            server.system.wait_for_log(&line).await;
            let log = server.system.log();
            assert_eq!(log.matches(&line).count(), 1, "{line}:\n{log}");
        }
    }
    alice.send_message("accepted").await;
    assert!(!server.system.log().contains("a transaction failed"), "{}", server.system.log());
}

#[tokio::test]
async fn a_lock_of_another_program_during_the_end_and_the_start_loses_nothing() {
    let mut server = TestServer::start().await;
    let mut alice = server.connected_user("alice").await;
    alice.send_message("acked").await;
    for file in FILES {
        let data = server.system.data_dir();
        let program = lock(&data.join(file));
        assert!(server.system.stop().await.success(), "{file}");
        for arguments in [&["serve", "--listen", "127.0.0.1:0"][..], &["seed"]] {
            let refused = tool("timeout 20", arguments, &data);
            let (code, printed) = (refused.status.code(), text(&refused));
            assert!(code.is_some_and(|code| code != 0 && code != 124), "{file}, {arguments:?}: {printed}");
            let named = printed.contains(&format!("process {} (", std::process::id()));
            assert!(named && printed.contains("end its transaction"), "{file}, {arguments:?}: {printed}");
        }
        drop(program);
        server.system.restart().await;
        assert_eq!(alice.user.read_history("lobby").await.len(), 1, "{file}");
    }
}

#[tokio::test]
async fn a_file_at_its_size_limit_refuses_writes_until_the_limit_is_raised() {
    let server = TestServer::start().await;
    let mut alice = server.connected_user("alice").await;
    alice.send_message("before").await;
    let limit = |bytes: &str| {
        let pid = server.system.pid().to_string();
        let set = Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={bytes}")]).status();
        assert!(set.expect("prlimit is installed").success());
    };
    limit("65536:unlimited");
    let (mut acked, mut refused) = (1, Value::Null);
    for _ in 0..8 {
        refused = try_to_send(&mut alice, &"x".repeat(8_000)).await;
        if refused["ok"] == false {
            break;
        }
        acked += 1;
    }
    assert_eq!(refused["code"], "unavailable", "{refused}");
    limit("unlimited:unlimited");
    alice.send_message("after").await;
    assert_eq!(alice.user.read_history("lobby").await.len(), acked + 1);
}

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

async fn reconnect(user: &TestUser, pid: &str, offset: Option<String>) -> Socket {
    let auth = json!({"pid": pid, "offset": offset});
    user.try_connect(user.handshake().auth(auth)).await.unwrap_or_else(|why| panic!("{}: {why:?}", user.name))
}

/// The data directory of a stopped server with some messages.
async fn stopped() -> (TempDir, PathBuf) {
    let mut server = TestServer::start().await;
    let mut alice = server.connected_user("alice").await;
    for number in 1..=9 {
        alice
            .send_message_to(
                "lobby",
                &format!("a text that is long enough to be found in the file: {number}"),
            )
            .await;
    }
    assert!(server.system.stop().await.success());
    let root = TempDir::new().expect("a temporary directory");
    let data = root.path().join("data");
    copy(&server.system.data_dir(), &data);
    (root, data)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("a new directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("a file");
        fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
    }
}

/// Converts the files to the format of a release without checksums.
fn downgrade(data: &Path) {
    let additions =
        "DROP INDEX members_by_adder; ALTER TABLE members DROP COLUMN added_by; DROP TABLE departures;
         ALTER TABLE rooms DROP COLUMN base; ALTER TABLE rooms DROP COLUMN sum; ALTER TABLE members DROP COLUMN sum;
         ALTER TABLE tickets DROP COLUMN sum; ALTER TABLE meta DROP COLUMN sum;
         DROP TABLE changes; DROP TABLE revs;";
    for (file, table, version, later) in [
        (FILES[0], "users", 1, "DROP INDEX users_by_name;"),
        (FILES[1], "sessions", 1, ""),
        (FILES[2], "messages", 2, additions),
    ] {
        let conn = rusqlite::Connection::open(data.join(file)).expect("a store");
        let sql = format!(
            "PRAGMA journal_mode = DELETE; ALTER TABLE {table} DROP COLUMN sum; DROP TABLE store_state; {later}
             PRAGMA user_version = {version}; PRAGMA journal_mode = WAL;"
        );
        conn.execute_batch(&sql).expect("a change");
    }
}

fn names(data: &Path) -> Vec<String> {
    let entries = fs::read_dir(data).expect("a directory").map(|entry| entry.expect("a file").file_name());
    let mut names: Vec<String> = entries.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Flips one bit of the text of a message.
fn flip_bit(data: &Path) {
    let path = data.join(FILES[2]);
    let bytes = fs::read(&path).expect("a file");
    let needle = b"to be found in the file: 7";
    let at = bytes.windows(needle.len()).position(|window| window == needle).expect("the text in the file");
    let file = File::options().write(true).open(&path).expect("a file");
    file.write_all_at(&[bytes[at] ^ 4], at as u64).expect("a byte");
}

/// The name of the case, the change of the data, shell code before the tool, what `backup` and `check` print (nothing on success).
type Case = (&'static str, fn(&Path), &'static str, &'static str, &'static str);

#[tokio::test]
async fn the_tools_report_their_findings_and_leave_no_partial_result() {
    let (root, whole) = stopped().await;
    let cases: [Case; 9] = [
        ("whole", |_| (), "", "", ""),
        ("of an earlier release", downgrade, "", "", ""),
        (
            "no store",
            |data| FILES.iter().for_each(|file| fs::remove_file(data.join(file)).expect("a file")),
            "",
            "chat.sqlite3",
            "no store",
        ),
        ("foreign files", |data| fs::write(data.join("notes.txt"), "x").expect("a file"), "", "", ""),
        (
            "a file removed",
            |data| fs::remove_file(data.join(FILES[0])).expect("a file"),
            "",
            "users.sqlite3",
            "users.sqlite3",
        ),
        (
            "a file of zeros",
            |data| fs::write(data.join(FILES[2]), [0; 4096]).expect("a file"),
            "",
            "chat.sqlite3",
            "chat.sqlite3",
        ),
        ("a flipped bit", flip_bit, "", "wrong checksum", "message 7 of the room lobby has a wrong checksum"),
        (
            "source read-only",
            |data| {
                fs::set_permissions(data, fs::Permissions::from_mode(0o500)).expect("a change");
            },
            "",
            "",
            "",
        ),
        ("target full", |_| (), "ulimit -f 8; trap '' XFSZ;", "no backup was made", ""),
    ];
    for (number, case) in cases.into_iter().enumerate() {
        let (data, to) =
            (root.path().join(format!("data-{number}")), root.path().join(format!("to-{number}")));
        copy(&whole, &data);
        check_case(case, &data, &to);
    }
}

/// One row of the table: `backup` and `check` on `data`.
fn check_case((what, change, before, backup, check): Case, data: &Path, to: &Path) {
    change(data);
    let before_names = names(data);
    let made = tool(before, &["backup", to.to_str().expect("a UTF-8 path")], data);
    assert_eq!(made.status.code(), Some(i32::from(!backup.is_empty())), "{what}: {}", text(&made));
    assert!(text(&made).contains(backup), "{what}: {}", text(&made));
    assert_eq!(to.exists(), backup.is_empty(), "{what}");
    let beside = names(to.parent().expect("a directory"));
    assert!(!beside.iter().any(|name| name.contains("partial")), "{what}: a partial backup: {beside:?}");
    let checked = tool("", &["check"], data);
    assert_eq!(names(data), before_names, "{what}: the tools created files in the source");
    assert_eq!(checked.status.code(), Some(i32::from(!check.is_empty())), "{what}: {}", text(&checked));
    assert!(text(&checked).contains(check), "{what}: {}", text(&checked));
    if backup.is_empty() {
        assert!(tool("", &["check"], to).status.success(), "{what}: the copy");
        let again = tool("", &["backup", to.to_str().expect("a UTF-8 path")], data);
        assert!(!again.status.success() && text(&again).contains("not empty"), "{what}: {}", text(&again));
    }
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
async fn a_damaged_text_is_never_served_and_its_loss_can_be_accepted() {
    let mut server = TestServer::start().await;
    let mut alice = server.connected_user("alice").await;
    for number in 1..=9 {
        alice
            .send_message_to(
                "lobby",
                &format!("a text that is long enough to be found in the file: {number}"),
            )
            .await;
    }
    let data = server.system.data_dir();
    assert!(server.system.stop().await.success());
    flip_bit(&data);
    server.system.restart().await;
    let page = alice.user.get("/rooms/lobby/messages").await;
    assert_eq!(page.status, 503, "{page:?}");
    assert!(page.body.contains("godzilla check"), "{page:?}");
    let reason = not_ready_reason(&server).await;
    assert!(reason.contains("chat has damaged content"), "{reason}");
    assert!(server.system.stop().await.success());
    let accepted = tool("", &["check", "--accept-loss"], &data);
    assert!(accepted.status.success(), "{}", text(&accepted));
    server.system.restart().await;
    alice.user.get("/user/me").await.expect_refusal(401);
    alice.user.log_in().await;
    let stored = alice.user.read_history("lobby").await;
    assert_eq!((stored.len(), &stored[6]["data"]["text"]), (9, &json!("\u{FFFD}")));
}

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

/// The tools must not let SQLite truncate a damaged write-ahead log: the next start would continue without its end and assign numbers
/// twice.
#[tokio::test]
async fn the_tools_do_not_change_a_damaged_write_ahead_log() {
    let mut server = TestServer::start().await;
    let mut alice = server.connected_user("alice").await;
    for number in 1..=15 {
        alice.send_message(&format!("stored {number}")).await;
    }
    server.system.kill();
    let data = server.system.data_dir();
    let log = data.join("chat.sqlite3-wal");
    let end = fs::metadata(&log).expect("a log").len() - 9;
    let file = File::options().read(true).write(true).open(&log).expect("a log");
    let mut byte = [0];
    file.read_exact_at(&mut byte, end).expect("a byte");
    file.write_all_at(&[byte[0] ^ 1], end).expect("a byte");
    let to = data.with_file_name("copy");
    for round in 1..=2 {
        let checked = tool("", &["check"], &data);
        assert!(
            !checked.status.success() && text(&checked).contains("chat.sqlite3"),
            "{round}: {}",
            text(&checked)
        );
        let made = tool("", &["backup", to.to_str().expect("a UTF-8 path")], &data);
        assert!(!made.status.success() && text(&made).contains("damaged"), "{round}: {}", text(&made));
        assert!(!to.exists());
    }
}

/// A copy of a stopped store replaces newer data: positions of the newer history are refused, and revoked sessions stay revoked. A start
/// on the same files changes nothing.
#[tokio::test]
async fn a_restored_cold_copy_begins_a_new_history() {
    for restore in ["rm -r data && cp -a old data", "rm -f data/*-wal data/*-shm && cp -a old/. data"] {
        let mut server = TestServer::start().await;
        let mut alice = server.connected_user("alice").await;
        let mut bob = server.connected_user("bob").await;
        alice.send_message("old").await;
        bob.receive_message("old").await;
        let data = server.system.data_dir();
        let root = data.parent().expect("a directory above").to_owned();
        let name = data.file_name().expect("a name").to_string_lossy().into_owned();
        let run = |script: &str| {
            let script = script.replace("data", &name);
            let ran = Command::new("sh").arg("-c").arg(&script).current_dir(&root).status();
            assert!(ran.expect("a shell").success(), "{script}");
        };
        assert!(server.system.stop().await.success());
        run("rm -rf old && cp -a data old");
        server.system.restart().await;
        let mut user = bob.user.clone();
        user.get("/user/me").await.expect(200);
        let mut bob = reconnect(&user, &bob.pid, bob.offset.clone()).await;
        let mut alice = alice.user.connect().await;
        alice.send_message("lost").await;
        bob.receive_message("lost").await;
        let (pid, offset) = (bob.pid.clone(), bob.offset.clone());
        assert!(server.system.stop().await.success());
        run(restore);
        server.system.restart().await;
        user.get("/user/me").await.expect_refusal(401);
        user.log_in().await;
        let reconnected = reconnect(&user, &pid, offset).await;
        assert_ne!(reconnected.pid, pid, "{restore}: a position of another history was accepted");
    }
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
