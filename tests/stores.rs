//! The embedded store of a running server when its files, its disk or its history change under it, and the tools that copy
//! and check it.

use std::{
    fs::{self, File},
    os::unix::fs::{FileExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::stage::{Person, Request, Socket, Stage, program, soon};

const FILES: [&str; 3] = ["users.sqlite3", "sessions.sqlite3", "chat.sqlite3"];

/// Runs a tool on a data directory, behind some words of the shell.
fn tool(before: &str, arguments: &[&str], data: &Path) -> Output {
    let tool = program();
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("{before} \"$0\" \"$@\"")).arg(tool.get_program()).args(arguments);
    shell.arg("--data-dir").arg(data).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    shell.output().expect("the tool runs")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
}

/// The message of `/readyz` once it is no longer ready.
async fn not_ready_reason(stage: &Stage) -> String {
    soon("not ready", async {
        loop {
            let answer = Request::get("/readyz").send([127, 0, 0, 1].into(), stage.server.admin).await;
            if answer.status == 503 {
                return answer.json()["message"].as_str().unwrap_or_default().to_owned();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}

async fn tries_to_say(socket: &mut Socket, text: &str) -> Value {
    socket.asks("message", &json!({"text": text})).await
}

#[tokio::test]
async fn a_clean_stop_leaves_no_log_beside_any_file() {
    let mut stage = Stage::opens().await;
    let mut alice = stage.enters("alice").await;
    alice.says("before the stop").await;
    let bob = stage.person("bob").await;
    bob.logs_out().await;
    assert!(stage.server.is_asked_to_stop().await.success());
    for name in FILES.iter().flat_map(|file| ["-wal", "-shm"].map(|suffix| format!("{file}{suffix}"))) {
        assert!(!stage.server.data_dir().join(&name).exists(), "{name} is left");
    }
}

#[tokio::test]
async fn what_loses_its_files_acks_nothing_and_is_not_ready() {
    type Change = fn(&Path);
    // What happens to the data directory; the part that `/readyz` names.
    let changes: [(&str, &str, Change); 4] = [
        ("directory removed", "chat has lost its files", |data| fs::remove_dir_all(data).expect("ours")),
        ("directory renamed", "users has lost its files", |data| {
            fs::rename(data, data.with_extension("old")).expect("ours");
        }),
        ("sessions replaced", "sessions has lost its files", |data| {
            fs::copy(data.join(FILES[1]), data.join("x")).expect("ours");
            fs::rename(data.join("x"), data.join(FILES[1])).expect("ours");
        }),
        ("log removed", "chat has lost its files", |data| {
            fs::remove_file(data.join("chat.sqlite3-wal")).expect("ours");
        }),
    ];
    for (what, named, change) in changes {
        let stage = Stage::opens().await;
        let mut alice = stage.enters("alice").await;
        alice.says("kept").await;
        change(&stage.server.data_dir());
        let not_ready_reason = not_ready_reason(&stage).await;
        assert!(not_ready_reason.contains(named), "{what}: {not_ready_reason}");
        let login = alice.person.sends(Request::post("/user/login", &alice.person.credentials())).await;
        let said = tries_to_say(&mut alice, "lost").await;
        if named.starts_with("sessions") {
            assert_eq!((login.status, &said["ok"]), (503, &json!(true)), "{what}: {login:?}");
        } else {
            assert_eq!(
                (&said["ok"], &said["code"]),
                (&json!(false), &json!("unavailable")),
                "{what}: {said}"
            );
        }
    }
}

#[tokio::test]
async fn a_file_that_reaches_its_limit_refuses_and_the_server_goes_on() {
    let stage = Stage::opens().await;
    let mut alice = stage.enters("alice").await;
    alice.says("before").await;
    let limit = |bytes: &str| {
        let pid = stage.server.pid().to_string();
        let set = Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={bytes}")]).status();
        assert!(set.expect("prlimit is a part of util-linux").success());
    };
    limit("65536:unlimited");
    let (mut acked, mut refused) = (1, Value::Null);
    for _ in 0..8 {
        refused = tries_to_say(&mut alice, &"x".repeat(8_000)).await;
        if refused["ok"] == false {
            break;
        }
        acked += 1;
    }
    assert_eq!(refused["code"], "unavailable", "{refused}");
    limit("unlimited:unlimited");
    alice.says("after").await;
    assert_eq!(alice.person.reads_all("lobby").await.len(), acked + 1);
}

#[tokio::test]
async fn a_backup_of_a_running_server_is_whole_and_nobody_goes_on_from_its_future() {
    let mut stage = Stage::opens().await;
    let mut alice = stage.enters("alice").await;
    for number in 1..=5 {
        alice.says(&format!("kept {number}")).await;
    }
    let root = TempDir::new().expect("a temporary directory");
    let (data, copy) = (stage.server.data_dir(), root.path().join("copy"));
    let made = tool("", &["backup", copy.to_str().expect("our own path")], &data);
    assert!(made.status.success(), "{}", text(&made));
    let checked = tool("", &["check"], &data);
    assert!(checked.status.success(), "while the server runs: {}", text(&checked));
    for number in 6..=9 {
        alice.says(&format!("future {number}")).await;
    }
    let mut bob = stage.enters("bob").await;
    alice.says("future 10").await;
    bob.hears("future 10").await;
    let (pid, offset, old) = (bob.pid.clone(), bob.offset.clone(), alice.person.token().to_owned());

    stage.server.kill();
    fs::rename(&data, data.with_extension("old")).expect("ours");
    fs::rename(&copy, &data).expect("one filesystem");
    stage.server.restart().await;
    alice.person.gets("/user/me").await.expect_refusal(401);
    let mut person = alice.person.clone();
    person.logs_in().await;
    assert_ne!(person.token(), old);
    let texts = |messages: &[Value]| {
        messages
            .iter()
            .map(|message| message["data"]["text"].as_str().expect("a text").to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        texts(&person.reads_all("lobby").await),
        (1..=5).map(|n| format!("kept {n}")).collect::<Vec<_>>()
    );

    // A user of after the backup registers again and sends the place of before the restore.
    bob.person.registers().await;
    let mut bob = bob.person.clone();
    bob.logs_in().await;
    let mut fresh = person.connects().await;
    let beyond = fresh.asks("join", &json!({"room": "lobby", "since": 10})).await;
    assert_eq!(
        (&beyond["ok"], &beyond["reset"], &beyond["head"]),
        (&json!(true), &json!(true), &json!(5)),
        "{beyond}"
    );
    assert_eq!(texts(beyond["messages"].as_array().expect("messages")).len(), 5, "{beyond}");
    for number in 6..=12 {
        fresh.says(&format!("new {number}")).await;
    }
    let mut back = returns(&bob, &pid, offset).await;
    assert_ne!(back.pid, pid, "a place of the future was taken");
    let skipping = back.asks("join", &json!({"room": "lobby", "since": 10})).await;
    assert_eq!((&skipping["reset"], &skipping["head"]), (&json!(true), &json!(12)), "{skipping}");
    assert_eq!(texts(skipping["messages"].as_array().expect("messages")).len(), 12, "{skipping}");
    let on = back.asks("join", &json!({"room": "lobby", "since": 10})).await;
    assert_eq!(texts(on["messages"].as_array().expect("messages")), ["new 11", "new 12"]);
}

async fn returns(person: &Person, pid: &str, offset: Option<String>) -> Socket {
    let auth = json!({"pid": pid, "offset": offset});
    person.tries(person.handshake().auth(auth)).await.unwrap_or_else(|why| panic!("{}: {why:?}", person.name))
}

/// A stopped store with some messages.
async fn stopped() -> (TempDir, PathBuf) {
    let mut stage = Stage::opens().await;
    let mut alice = stage.enters("alice").await;
    for number in 1..=9 {
        alice
            .says_in("lobby", &format!("a text that is long enough to be found in the file: {number}"))
            .await;
    }
    assert!(stage.server.is_asked_to_stop().await.success());
    let root = TempDir::new().expect("a temporary directory");
    let data = root.path().join("data");
    copy(&stage.server.data_dir(), &data);
    (root, data)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("a new directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("a file");
        fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
    }
}

/// Makes the files those of the release that had no checksums.
fn ages(data: &Path) {
    let additions =
        "DROP INDEX members_by_adder; ALTER TABLE members DROP COLUMN added_by; DROP TABLE departures;
         ALTER TABLE rooms DROP COLUMN base; ALTER TABLE rooms DROP COLUMN sum; ALTER TABLE members DROP COLUMN sum;
         ALTER TABLE tickets DROP COLUMN sum; ALTER TABLE meta DROP COLUMN sum;";
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

/// Changes one bit of a text of a message.
fn rots(data: &Path) {
    let path = data.join(FILES[2]);
    let bytes = fs::read(&path).expect("a file");
    let needle = b"to be found in the file: 7";
    let at = bytes.windows(needle.len()).position(|window| window == needle).expect("the text is there");
    let file = File::options().write(true).open(&path).expect("a file");
    file.write_all_at(&[bytes[at] ^ 4], at as u64).expect("a byte");
}

/// What is done to the data, words of the shell, what `backup` and `check` print (nothing where they succeed).
type Case = (&'static str, fn(&Path), &'static str, &'static str, &'static str);

#[tokio::test]
async fn the_tools_say_what_they_find_and_leave_nothing_half_done() {
    let (root, whole) = stopped().await;
    let cases: [Case; 9] = [
        ("whole", |_| (), "", "", ""),
        ("of an earlier release", ages, "", "", ""),
        (
            "no store",
            |data| FILES.iter().for_each(|file| fs::remove_file(data.join(file)).expect("a file")),
            "",
            "chat.sqlite3",
            "no store",
        ),
        ("foreign files", |data| fs::write(data.join("notes.txt"), "x").expect("a file"), "", "", ""),
        (
            "a file gone",
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
        ("a text rots", rots, "", "wrong checksum", "message 7 of the room lobby has a wrong checksum"),
        (
            "source read-only",
            |data| {
                fs::set_permissions(data, fs::Permissions::from_mode(0o500)).expect("ours");
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
        holds(case, &data, &to);
    }
}

/// One row of the table: `backup` and `check` on `data`.
fn holds((what, change, before, backup, check): Case, data: &Path, to: &Path) {
    change(data);
    let before_names = names(data);
    let made = tool(before, &["backup", to.to_str().expect("our own path")], data);
    assert_eq!(made.status.code(), Some(i32::from(!backup.is_empty())), "{what}: {}", text(&made));
    assert!(text(&made).contains(backup), "{what}: {}", text(&made));
    assert_eq!(to.exists(), backup.is_empty(), "{what}");
    let beside = names(to.parent().expect("a directory"));
    assert!(!beside.iter().any(|name| name.contains("partial")), "{what}: half a backup: {beside:?}");
    let checked = tool("", &["check"], data);
    assert_eq!(names(data), before_names, "{what}: the tools made files in the source");
    assert_eq!(checked.status.code(), Some(i32::from(!check.is_empty())), "{what}: {}", text(&checked));
    assert!(text(&checked).contains(check), "{what}: {}", text(&checked));
    if backup.is_empty() {
        assert!(tool("", &["check"], to).status.success(), "{what}: the copy");
        let again = tool("", &["backup", to.to_str().expect("our own path")], data);
        assert!(!again.status.success() && text(&again).contains("not empty"), "{what}: {}", text(&again));
    }
}

/// Runs `backup` with `to` as its argument in the directory `at`, and `check` on the copy, behind some words of the shell.
fn backs_up(before: &str, to: &str, data: &Path, at: &Path) -> Output {
    let script =
        format!("{before} \"$0\" backup {to} --data-dir {} && \"$0\" check --data-dir {to}", data.display());
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(script).arg(program().get_program()).current_dir(at).env_clear();
    shell.env("PATH", std::env::var_os("PATH").unwrap_or_default()).output().expect("the tool runs")
}

#[tokio::test]
async fn a_backup_goes_into_every_place_that_can_hold_it_and_names_the_remedy_for_others() {
    let (root, data) = stopped().await;
    // What is made beforehand, the argument, what is printed when it is refused.
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
        let made = backs_up(before, to, &data, &at);
        assert_eq!(made.status.success(), refused.is_empty(), "{before} {to}: {}", text(&made));
        assert!(text(&made).contains(refused), "{before} {to}: {}", text(&made));
        let left = Command::new("find").arg(&at).args(["-name", "*partial*"]).output().expect("find");
        assert!(left.stdout.is_empty(), "{before} {to}: {}", text(&left));
    }
    // Mount points, and directories of another user, where this user may make them.
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
async fn a_backup_while_people_write_is_whole_and_has_what_was_acked_before() {
    let stage = Stage::opens_with(&["--message-rate", "100000", "--message-burst", "100000"]).await;
    let mut writers = Vec::new();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    for name in ["alice", "bob", "carol", "dave"] {
        let mut socket = stage.enters(name).await;
        let stopped = stopped.clone();
        writers.push(tokio::spawn(async move {
            let mut said = 0;
            while !*stopped.borrow() {
                let ids: Vec<u64> = (0..32)
                    .map(|n| socket.request("message", &json!({"text": format!("{said} {n}")})))
                    .collect();
                for id in ids {
                    let answer = socket.try_answer(id).await.expect("an answer");
                    assert_eq!(answer["ok"], true, "{answer}");
                    said += 1;
                }
            }
            said
        }));
    }
    let reader = stage.person("erin").await;
    let root = TempDir::new().expect("a temporary directory");
    let mut acked = 0;
    for round in 0..3 {
        let newest = reader.gets("/rooms/lobby/messages?limit=1").await.json();
        acked = newest["messages"][0]["seq"].as_i64().unwrap_or_default().max(acked);
        let (data, to) = (stage.server.data_dir(), root.path().join(format!("copy-{round}")));
        let made = tokio::task::spawn_blocking({
            let to = to.clone();
            move || tool("", &["backup", to.to_str().expect("our own path")], &data)
        });
        let made = made.await.expect("it runs");
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
    stop.send(true).expect("the writers live");
    let mut said = 0;
    for writer in writers {
        said += writer.await.expect("a writer fails only by an assertion");
    }
    assert!(said > 500, "only {said} messages: this was no load");
}

#[tokio::test]
async fn a_text_that_rots_is_never_shown_and_its_loss_can_be_accepted() {
    let mut stage = Stage::opens().await;
    let mut alice = stage.enters("alice").await;
    for number in 1..=9 {
        alice
            .says_in("lobby", &format!("a text that is long enough to be found in the file: {number}"))
            .await;
    }
    let data = stage.server.data_dir();
    assert!(stage.server.is_asked_to_stop().await.success());
    rots(&data);
    stage.server.restart().await;
    let page = alice.person.gets("/rooms/lobby/messages").await;
    assert_eq!(page.status, 503, "{page:?}");
    assert!(page.body.contains("godzilla check"), "{page:?}");
    let not_ready_reason = not_ready_reason(&stage).await;
    assert!(not_ready_reason.contains("chat has damaged content"), "{not_ready_reason}");
    assert!(stage.server.is_asked_to_stop().await.success());
    let accepted = tool("", &["check", "--accept-loss"], &data);
    assert!(accepted.status.success(), "{}", text(&accepted));
    stage.server.restart().await;
    alice.person.gets("/user/me").await.expect_refusal(401);
    alice.person.logs_in().await;
    let kept = alice.person.reads_all("lobby").await;
    assert_eq!((kept.len(), &kept[6]["data"]["text"]), (9, &json!("\u{FFFD}")));
}

#[tokio::test]
async fn the_root_of_a_volume_is_used_by_a_directory_inside() {
    let root = TempDir::new().expect("a temporary directory");
    let data = root.path().join("volume");
    fs::create_dir(&data).expect("a new directory");
    fs::create_dir(data.join("lost+found")).expect("a new directory");
    fs::set_permissions(&data, fs::Permissions::from_mode(0o777)).expect("ours");
    let seeded = tool("", &["seed", "--bcrypt-cost", "4"], &data);
    assert!(seeded.status.success() && text(&seeded).contains("directory of its own"), "{}", text(&seeded));
    let inside = fs::metadata(data.join("godzilla")).expect("our own directory");
    assert_eq!(inside.permissions().mode() & 0o777, 0o700);
    let checked = tool("", &["check"], &data);
    assert!(checked.status.success(), "{}", text(&checked));
    fs::copy(data.join("godzilla").join(FILES[0]), data.join(FILES[0])).expect("a copy");
    let both = tool("", &["seed"], &data);
    assert!(!both.status.success() && text(&both).contains("another one"), "{}", text(&both));
}

/// The tools must not let SQLite drop the end of a damaged log: the next start would go on without it, and give numbers twice.
#[tokio::test]
async fn the_tools_leave_a_damaged_log_as_it_is() {
    let mut stage = Stage::opens().await;
    let mut alice = stage.enters("alice").await;
    for number in 1..=15 {
        alice.says(&format!("kept {number}")).await;
    }
    stage.server.kill();
    let data = stage.server.data_dir();
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
        let made = tool("", &["backup", to.to_str().expect("our own path")], &data);
        assert!(!made.status.success() && text(&made).contains("damaged"), "{round}: {}", text(&made));
        assert!(!to.exists());
    }
}

/// A copy of a stopped store, put back over what was written since: nobody goes on from the positions of the newer history, and what
/// was logged out stays logged out. A start on the same files changes nothing.
#[tokio::test]
async fn a_cold_copy_that_is_put_back_begins_a_new_history() {
    for restore in ["rm -r data && cp -a old data", "rm -f data/*-wal data/*-shm && cp -a old/. data"] {
        let mut stage = Stage::opens().await;
        let mut alice = stage.enters("alice").await;
        let mut bob = stage.enters("bob").await;
        alice.says("old").await;
        bob.hears("old").await;
        let data = stage.server.data_dir();
        let root = data.parent().expect("a directory above").to_owned();
        let name = data.file_name().expect("a name").to_string_lossy().into_owned();
        let run = |script: &str| {
            let script = script.replace("data", &name);
            let ran = Command::new("sh").arg("-c").arg(&script).current_dir(&root).status();
            assert!(ran.expect("a shell").success(), "{script}");
        };
        assert!(stage.server.is_asked_to_stop().await.success());
        run("rm -rf old && cp -a data old");
        stage.server.restart().await;
        let mut person = bob.person.clone();
        person.gets("/user/me").await.expect(200);
        let mut bob = returns(&person, &bob.pid, bob.offset.clone()).await;
        let mut alice = alice.person.connects().await;
        alice.says("lost").await;
        bob.hears("lost").await;
        let (pid, offset) = (bob.pid.clone(), bob.offset.clone());
        assert!(stage.server.is_asked_to_stop().await.success());
        run(restore);
        stage.server.restart().await;
        person.gets("/user/me").await.expect_refusal(401);
        person.logs_in().await;
        let back = returns(&person, &pid, offset).await;
        assert_ne!(back.pid, pid, "{restore}: a position of another history was accepted");
    }
}

/// Words of the shell that run a program as a user who may not enter the directories of others.
fn stranger(data: &Path) -> String {
    if !nix::unistd::Uid::effective().is_root() {
        return "chmod 0 \"$4\"; ".to_owned();
    }
    std::os::unix::fs::chown(data, Some(65_534), Some(65_534)).expect("root may");
    fs::set_permissions(data, fs::Permissions::from_mode(0o700)).expect("root may");
    "exec setpriv --bounding-set=-all --inh-caps=-all ".to_owned()
}

#[tokio::test]
async fn the_tools_name_a_directory_that_this_user_may_not_enter() {
    let (root, data) = stopped().await;
    let before = stranger(&data).replace("$4", &data.to_string_lossy());
    let to = root.path().join("to");
    for arguments in [&["check"][..], &["seed"], &["backup", to.to_str().expect("our own path")]] {
        let ended = tool(&before, arguments, &data);
        let said = text(&ended);
        assert!(!ended.status.success() && said.contains("permission denied"), "{arguments:?}: {said}");
    }
    fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).expect("ours");
}

#[tokio::test]
async fn a_backup_into_the_data_directory_is_refused() {
    let (root, data) = stopped().await;
    fs::create_dir(data.join("made")).expect("a new directory");
    std::os::unix::fs::symlink(&data, root.path().join("link")).expect("a new link");
    let before = names(&data);
    for to in ["data/backup", "data/not/yet", "data/made", "data/made/../backup", "data", "link/backup"] {
        let made = tool("", &["backup", root.path().join(to).to_str().expect("our own path")], &data);
        assert!(!made.status.success(), "{to}");
        assert!(text(&made).contains("inside the data directory"), "{to}: {}", text(&made));
        assert_eq!(names(&data), before, "{to}");
    }
}

/// A backup that waits for its standard output to be read, with its partial copy; the other end of that output.
async fn unfinished(data: &Path, to: &Path) -> (std::process::Child, std::io::PipeReader) {
    use std::io::Write;
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    writer.write_all(&[b'.'; 65_536]).expect("what a pipe holds");
    let mut command = Command::new(program().get_program());
    command.arg("backup").arg(to).arg("--data-dir").arg(data).stdout(writer);
    let backup = command.spawn().expect("the tool runs");
    let parent = to.parent().expect("a directory");
    let prefix = format!(".{}.partial-", to.file_name().expect("a name").to_string_lossy());
    soon("a partial copy", async {
        while !names(parent).iter().any(|name| name.starts_with(&prefix)) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    (backup, reader)
}

#[tokio::test]
async fn a_backup_that_is_ended_leaves_nothing() {
    let (root, data) = stopped().await;
    let partials = || names(root.path()).into_iter().filter(|name| name.contains("partial")).count();
    for (signal, number) in [("TERM", 15), ("INT", 2)] {
        let (mut backup, _unread) = unfinished(&data, &root.path().join("ended")).await;
        let kill = format!("kill -{signal} {}", backup.id());
        assert!(Command::new("sh").arg("-c").arg(kill).status().expect("a shell").success());
        assert_eq!(backup.wait().expect("our child").code(), Some(128 + number), "{signal}");
        assert_eq!(partials(), 0, "{signal}: {:?}", names(root.path()));
    }
    let (mut killed, _unread) = unfinished(&data, &root.path().join("monday")).await;
    killed.kill().expect("our child");
    killed.wait().expect("our child");
    assert_eq!(partials(), 1, "nothing removes it");
    let (mut running, _unread) = unfinished(&data, &root.path().join("tuesday")).await;
    let next = root.path().join("wednesday");
    let made = tool("", &["backup", next.to_str().expect("our own path")], &data);
    assert!(made.status.success(), "{}", text(&made));
    let left = names(root.path());
    assert!(!left.iter().any(|name| name.starts_with(".monday")), "{left:?}");
    assert!(running.wait().expect("our child").success(), "a backup under way was disturbed: {left:?}");
    assert_eq!(partials(), 0);
}
