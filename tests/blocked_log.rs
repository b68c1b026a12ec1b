//! A log that accepts nothing: standard error is closed, full, beyond its limit, a pipe that is not read or whose reader has gone.
//! Every role and tool starts, works and ends as with a good log, and counts the lines that it left out.

use std::{
    fs::{File, Permissions},
    io::{BufRead, BufReader, ErrorKind, PipeReader, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::{fd::OwnedFd, unix::fs::PermissionsExt},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tempfile::TempDir;

use crate::support::{
    LoadSenders, Request, TIMEOUT, TestServer, TestUser, free_addresses, program, with_timeout,
};

/// Metric of lines that were left out, without its reason.
const LEFT_OUT: &str = "godzilla_log_lines_left_out_total";

/// A standard error or output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ear {
    /// The descriptor is closed.
    Closed,
    /// The descriptor cannot be written.
    ReadOnly,
    /// No space is left on the device.
    Full,
    /// A file that has reached the limit of its size.
    Limited,
    /// A full pipe that is not read.
    Unread,
    /// A full non-blocking pipe that is not read.
    NonBlocking,
    /// A pipe without a reader.
    Gone,
}

/// Processes that run at the same time.
const AT_ONCE: usize = 8;

const EARS: [Ear; 7] =
    [Ear::Closed, Ear::ReadOnly, Ear::Full, Ear::Limited, Ear::Unread, Ear::NonBlocking, Ear::Gone];

impl Ear {
    /// How a shell starts a command, `"$@"`, with this ear as descriptor `fd`.
    fn script(self, fd: u8) -> String {
        match self {
            Self::Closed => format!(r#"exec "$@" {fd}>&-"#),
            Self::ReadOnly => format!(r#"exec "$@" {fd}</dev/null"#),
            Self::Full => format!(r#"exec "$@" {fd}>/dev/full"#),
            Self::Limited => format!(r#"ulimit -f 0; exec "$@" {fd}>>limited"#),
            Self::Unread | Self::NonBlocking | Self::Gone => format!(r#"exec "$@" {fd}>&0 </dev/null"#),
        }
    }

    /// A pipe for the ears that are one, and its reader.
    fn pipe(self) -> Option<(File, Option<PipeReader>)> {
        let (reader, mut writer) = std::io::pipe().expect("a pipe");
        let set = |flags| fcntl(&writer, FcntlArg::F_SETFL(flags)).map(drop).expect("a flag");
        match self {
            Self::Unread | Self::NonBlocking => {
                set(OFlag::O_NONBLOCK);
                let full = std::iter::repeat_with(|| writer.write(&[b'x'; 4096])).find_map(Result::err);
                assert_eq!(full.map(|error| error.kind()), Some(ErrorKind::WouldBlock));
                if self == Self::Unread {
                    fcntl(&writer, FcntlArg::F_SETFL(OFlag::empty())).expect("a flag");
                }
                Some((File::from(OwnedFd::from(writer)), Some(reader)))
            }
            Self::Gone => Some((File::from(OwnedFd::from(writer)), None)),
            _ => None,
        }
    }

    /// The program with these arguments and this ear as descriptor `fd`; the pipe's reader must be kept.
    fn starts(self, fd: u8, folder: &TempDir, arguments: &[&str]) -> (Child, Option<PipeReader>) {
        let program = program();
        let mut command = Command::new("sh");
        command.args(["-c", &self.script(fd), "sh"]).arg(program.get_program()).args(arguments);
        for (name, _) in program.get_envs() {
            command.env_remove(name);
        }
        let (pipe, reader) = self.pipe().map_or((None, None), |(pipe, reader)| (Some(pipe), reader));
        command.stdin(pipe.map_or_else(Stdio::null, Stdio::from));
        command.stdout(Stdio::null()).stderr(Stdio::null()).current_dir(folder.path());
        (command.spawn().expect("a shell"), reader)
    }
}

/// Waits until a process has ended.
async fn ends(what: &str, child: &mut Child) -> ExitStatus {
    let until = Instant::now() + TIMEOUT;
    loop {
        if let Some(status) = child.try_wait().expect("our own child") {
            return status;
        }
        if Instant::now() >= until {
            let _ = child.kill();
            panic!("{what} still runs after {TIMEOUT:?}");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Whether this line says how many were lost before it.
fn is_report(line: &[u8]) -> bool {
    String::from_utf8_lossy(line).contains("log lines were lost")
}

async fn lines_left_out(admin: SocketAddr) -> usize {
    let metrics = Request::get("/metrics").send(Ipv4Addr::LOCALHOST, admin).await.expect(200).body;
    let counts = metrics.lines().filter(|line| line.starts_with(LEFT_OUT));
    counts.filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok()).sum()
}

#[tokio::test]
async fn people_chat_on_and_the_server_ends_when_asked() {
    const CLIENTS: usize = 30;
    for ear in [Ear::Full, Ear::Unread, Ear::NonBlocking, Ear::Gone] {
        let (log, mut reader) = match ear.pipe() {
            Some(pipe) => pipe,
            None => (File::options().write(true).open("/dev/full").expect("a device"), None),
        };
        // Every line of every part, which is more than the queue holds.
        let mut server = TestServer::start_with_log(log, &["--log", "trace"]).await;
        let users = server.users_for("reader", CLIENTS).await;
        let mut readers = Vec::new();
        for n in 0..CLIENTS {
            readers.push(users[n % users.len()].connect().await);
        }
        let mut sender = server.connected_user("speaker").await;
        // A malformed packet writes a log line.
        users[0].connect().await.send_text("4!");
        let mut printed = Vec::new();
        let until = Instant::now() + TIMEOUT;
        while printed.len() < 20 || lines_left_out(server.system.admin).await == 0 {
            assert!(Instant::now() < until, "{ear:?}: no line was left out");
            let text = format!("message {}", printed.len());
            sender.send_message(&text).await;
            printed.push(text);
        }
        for reader in &mut readers {
            reader.receive_message(printed.last().expect("20 messages")).await;
            let received: Vec<_> =
                reader.texts().into_iter().filter(|text| text.starts_with("message")).collect();
            assert_eq!(received, printed, "{ear:?}");
        }
        let alive = Request::get("/livez").send(Ipv4Addr::LOCALHOST, server.system.admin).await;
        assert_eq!(alive.status, 200, "{ear:?}: {}", alive.body);
        if let Some(pipe) = reader.take() {
            let mut lines = BufReader::new(pipe).split(b'\n');
            let read = move || lines.any(|line| is_report(&line.expect("a line")));
            let read = with_timeout("a report of lost lines", tokio::task::spawn_blocking(read)).await;
            assert!(read.expect("no panic"), "{ear:?}");
        }
        let status = server.system.stop().await;
        assert_eq!(status.code(), Some(0), "{ear:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_clients_chat_on_while_the_log_is_a_pipe_that_is_not_read() {
    const CLIENTS: usize = 1000;
    let (log, _reader) = Ear::Unread.pipe().expect("a pipe");
    let mut server = TestServer::start_with_log(log, &["--log", "trace"]).await;
    let users: Vec<TestUser> = server.users_for("client", CLIENTS).await;
    let mut senders = LoadSenders::connect(&server).await;
    let clients = LoadSenders::polling_clients(&users, CLIENTS).await;
    let upgrading: Vec<_> = clients.into_iter().map(|client| tokio::spawn(client.upgrade_after(0))).collect();
    let all = senders.send_messages(200, 100).await;
    for client in upgrading {
        let client =
            with_timeout("a client to hear the end", client).await.expect("a client that only reads");
        assert_eq!(client.received, all, "lost, doubled or out of order");
    }
    assert!(lines_left_out(server.system.admin).await > 0);
    assert_eq!(server.system.stop().await.code(), Some(0));
}

/// The arguments of each role. The stores of the split roles are absent, so that they have something to log.
const ROLES: [&[&str]; 5] = [
    &["serve", "--presence-listen", "127.0.0.1:0"],
    &["gateway", "--redis-url", "redis://127.0.0.1:1", "--accounts-url", "http://127.0.0.1:1"],
    &["accounts", "--redis-url", "redis://127.0.0.1:1", "--mongo-uri", "mongodb://127.0.0.1:1/"],
    &["chat", "--redis-url", "redis://127.0.0.1:1", "--mongo-uri", "mongodb://127.0.0.1:1/"],
    &["presence"],
];

#[tokio::test]
async fn every_role_starts_lives_counts_and_ends_when_asked() {
    let all = EARS.into_iter().flat_map(|ear| ROLES.map(|role| (ear, role)));
    // The limit of a file's size holds for the store of `serve`, too, which can then do nothing.
    let all = all.filter(|(ear, role)| role[0] != "serve" || *ear != Ear::Limited);
    stream::iter(all).for_each_concurrent(AT_ONCE, |(ear, role)| role_with(ear, role)).await;
}

async fn role_with(ear: Ear, role: &'static [&'static str]) {
    let what = format!("{} with a log that is {ear:?}", role[0]);
    let folder = TempDir::new().expect("a temporary directory");
    let key = folder.path().join("key");
    std::fs::write(&key, "WXlm7c2Ue0Rr9vQkq4Zt1Jb8sNf3hPyA6dGoTiLx5Ew=").expect("a file");
    std::fs::set_permissions(&key, Permissions::from_mode(0o600)).expect("a file");
    let [address, admin] = free_addresses();
    let (listen, operators) = (address.to_string(), admin.to_string());
    let mut arguments = role.to_vec();
    arguments.extend(["--listen", &listen, "--admin-listen", &operators]);
    if !["serve", "presence"].contains(&role[0]) {
        arguments.extend(["--secret-file", key.to_str().expect("our own path")]);
    }
    let (mut child, _reader) = ear.starts(2, &folder, &arguments);
    let until = Instant::now() + TIMEOUT;
    while TcpStream::connect(admin).is_err() {
        assert_eq!(child.try_wait().expect("our own child"), None, "{what} ended");
        assert!(Instant::now() < until, "{what} does not listen");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let alive = Request::get("/livez").send(Ipv4Addr::LOCALHOST, admin).await;
    assert_eq!(alive.status, 200, "{what}: {}", alive.body);
    // A closed descriptor is /dev/null, by the standard library. A pipe that is not read holds lines back in the queue.
    let fails = [Ear::ReadOnly, Ear::Full, Ear::Limited, Ear::Gone].contains(&ear);
    while fails && lines_left_out(admin).await == 0 {
        assert!(Instant::now() < until, "{what} counts no line");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill").success());
    assert_eq!(ends(&what, &mut child).await.code(), Some(0), "{what}");
}

#[tokio::test]
async fn every_tool_ends_with_the_status_that_it_has_with_a_good_log() {
    let folder = TempDir::new().expect("a temporary directory");
    let table: [(&[&str], i32); 6] = [
        (&["--help"], 0),
        (&["--version"], 0),
        (&["serve", "--listen", "nowhere"], 2),
        (&["seed", "--data-dir", "/dev/null/data"], 1),
        (&["healthcheck", "--admin-listen", "127.0.0.1:1"], 1),
        (&["accounts"], 2),
    ];
    for (ear, (arguments, status)) in EARS.into_iter().flat_map(|ear| table.map(|row| (ear, row))) {
        let what = format!("{arguments:?} with a log that is {ear:?}");
        let (mut child, _reader) = ear.starts(2, &folder, arguments);
        assert_eq!(ends(&what, &mut child).await.code(), Some(status), "{what}");
    }
    for (ear, n) in EARS.into_iter().zip(0..).filter(|(ear, _)| *ear != Ear::Limited) {
        let data = format!("data{n}");
        let arguments = ["seed", "--bcrypt-cost", "4", "--log", "debug", "--data-dir", &data];
        let what = format!("seed with a log that is {ear:?}");
        let (mut child, _reader) = ear.starts(2, &folder, &arguments);
        assert_eq!(ends(&what, &mut child).await.code(), Some(0), "{what}");
    }
}

#[tokio::test]
async fn an_answer_that_cannot_be_written_is_an_error_and_a_reader_that_has_gone_is_none() {
    let folder = TempDir::new().expect("a temporary directory");
    let table = [
        (Ear::Closed, 0),
        (Ear::ReadOnly, 1),
        (Ear::Full, 1),
        (Ear::Limited, 1),
        (Ear::Unread, 1),
        (Ear::NonBlocking, 1),
        (Ear::Gone, 0),
    ];
    for (ear, status) in table {
        // A tool waits some seconds for a pipe that is not read.
        let all = [&["--help"][..], &["serve", "--help"], &["--version"]];
        for arguments in &all[..if [Ear::Unread, Ear::NonBlocking].contains(&ear) { 1 } else { 3 }] {
            let what = format!("{arguments:?} with an output that is {ear:?}");
            let (mut child, _reader) = ear.starts(1, &folder, arguments);
            assert_eq!(ends(&what, &mut child).await.code(), Some(status), "{what}");
        }
    }
}
