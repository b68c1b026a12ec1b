//! A log that cannot be written: standard error is closed, full, beyond its limit, a pipe that is not read or a pipe without a reader.
//! Every role and tool starts, works and exits as with a writable log, and counts the dropped lines.

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
    LoadSenders, PATIENT, Request, TIMEOUT, TestServer, TestUser, free_addresses, program, with_timeout,
};

/// The metric of dropped log lines, without its `reason`.
const LEFT_OUT: &str = "godzilla_log_lines_dropped_total";

/// A standard error or standard output that cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sink {
    /// The descriptor is closed.
    Closed,
    /// The descriptor is open for reading only.
    ReadOnly,
    /// No space is left on the device.
    Full,
    /// A file at the limit of its size.
    Limited,
    /// A full pipe that is not read.
    Unread,
    /// A full non-blocking pipe that is not read.
    NonBlocking,
    /// A pipe whose reader is closed.
    NoReader,
}

/// How many processes run at the same time.
const AT_ONCE: usize = 8;

const SINKS: [Sink; 7] = [
    Sink::Closed,
    Sink::ReadOnly,
    Sink::Full,
    Sink::Limited,
    Sink::Unread,
    Sink::NonBlocking,
    Sink::NoReader,
];

impl Sink {
    /// The shell script that starts a command, `"$@"`, with this sink as descriptor `fd`.
    fn script(self, fd: u8) -> String {
        match self {
            Self::Closed => format!(r#"exec "$@" {fd}>&-"#),
            Self::ReadOnly => format!(r#"exec "$@" {fd}</dev/null"#),
            Self::Full => format!(r#"exec "$@" {fd}>/dev/full"#),
            Self::Limited => format!(r#"ulimit -f 0; exec "$@" {fd}>>limited"#),
            Self::Unread | Self::NonBlocking | Self::NoReader => format!(r#"exec "$@" {fd}>&0 </dev/null"#),
        }
    }

    /// The pipe and its reader, for the sinks that are pipes.
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
            Self::NoReader => Some((File::from(OwnedFd::from(writer)), None)),
            _ => None,
        }
    }

    /// Starts the program with these arguments and this sink as descriptor `fd`; the caller must keep the pipe's reader.
    fn start(self, fd: u8, folder: &TempDir, arguments: &[&str]) -> (Child, Option<PipeReader>) {
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

/// Waits until a process has exited.
async fn wait_for_exit(what: &str, child: &mut Child) -> ExitStatus {
    let until = Instant::now() + TIMEOUT;
    loop {
        if let Some(status) = child.try_wait().expect("a child process") {
            return status;
        }
        if Instant::now() >= until {
            let _ = child.kill();
            panic!("{what} still runs after {TIMEOUT:?}");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Whether the line reports the number of lines that were dropped before it.
fn is_report(line: &[u8]) -> bool {
    String::from_utf8_lossy(line).contains("log lines were lost")
}

async fn lines_left_out(admin: SocketAddr) -> usize {
    let metrics = Request::get("/metrics").send(Ipv4Addr::LOCALHOST, admin).await.expect(200).body;
    let counts = metrics.lines().filter(|line| line.starts_with(LEFT_OUT));
    counts.filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok()).sum()
}

#[tokio::test]
async fn messages_are_delivered_and_the_server_stops_on_sigterm_while_the_log_is_blocked() {
    const CLIENTS: usize = 30;
    for sink in [Sink::Full, Sink::Unread, Sink::NonBlocking, Sink::NoReader] {
        let (log, mut reader) = match sink.pipe() {
            Some(pipe) => pipe,
            None => (File::options().write(true).open("/dev/full").expect("a device"), None),
        };
        // Level trace writes more lines than the queue holds.
        let mut server = TestServer::start_with_log(log, &["--log", "trace"]).await;
        let users = server.users_for("reader", CLIENTS).await;
        let mut readers = Vec::new();
        for n in 0..CLIENTS {
            readers.push(users[n % users.len()].connect().await);
        }
        let mut sender = server.connected_user("sender").await;
        // A malformed packet writes a log line.
        users[0].connect().await.send_text("4!");
        let mut sent = Vec::new();
        let until = Instant::now() + TIMEOUT;
        while sent.len() < 20 || lines_left_out(server.system.admin).await == 0 {
            assert!(Instant::now() < until, "{sink:?}: no line was dropped");
            let text = format!("message {}", sent.len());
            sender.send_message(&text).await;
            sent.push(text);
        }
        for reader in &mut readers {
            reader.receive_message(sent.last().expect("20 messages")).await;
            let received: Vec<_> =
                reader.texts().into_iter().filter(|text| text.starts_with("message")).collect();
            assert_eq!(received, sent, "{sink:?}");
        }
        let alive = Request::get("/livez").send(Ipv4Addr::LOCALHOST, server.system.admin).await;
        assert_eq!(alive.status, 200, "{sink:?}: {}", alive.body);
        if let Some(pipe) = reader.take() {
            let mut lines = BufReader::new(pipe).split(b'\n');
            let read = move || lines.any(|line| is_report(&line.expect("a line")));
            let read = with_timeout("a report of lost lines", tokio::task::spawn_blocking(read)).await;
            assert!(read.expect("no panic"), "{sink:?}");
        }
        let status = server.system.stop().await;
        assert_eq!(status.code(), Some(0), "{sink:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_clients_receive_all_messages_while_the_log_is_a_pipe_that_is_not_read() {
    const CLIENTS: usize = 1000;
    let (log, _reader) = Sink::Unread.pipe().expect("a pipe");
    let mut server = TestServer::start_with_log(log, &[&PATIENT[..], &["--log", "trace"]].concat()).await;
    let users: Vec<TestUser> = server.users_for("client", CLIENTS).await;
    let mut senders = LoadSenders::connect(&server).await;
    let clients = senders.start_clients(&users, CLIENTS, |_| 0).await;
    let all = senders.send_messages(200, 100).await;
    for client in clients {
        let client = with_timeout("a client to receive the last message", client)
            .await
            .expect("a client that only reads");
        assert_eq!(client.received, all, "lost, duplicate or out of order");
    }
    assert!(lines_left_out(server.system.admin).await > 0);
    assert_eq!(server.system.stop().await.code(), Some(0));
}

/// The arguments of each role. The stores of the split roles are unreachable, so that the roles write log lines.
const ROLES: [&[&str]; 5] = [
    &["serve", "--presence-listen", "127.0.0.1:0"],
    &["gateway", "--redis-url", "redis://127.0.0.1:1", "--accounts-url", "http://127.0.0.1:1"],
    &["accounts", "--redis-url", "redis://127.0.0.1:1", "--mongo-uri", "mongodb://127.0.0.1:1/"],
    &["chat", "--redis-url", "redis://127.0.0.1:1", "--mongo-uri", "mongodb://127.0.0.1:1/"],
    &["presence"],
];

#[tokio::test]
async fn every_role_starts_counts_dropped_lines_and_stops_on_sigterm_while_the_log_is_blocked() {
    let all = SINKS.into_iter().flat_map(|sink| ROLES.map(|role| (sink, role)));
    // The limit of file sizes also applies to the store of `serve`, which then cannot start.
    let all = all.filter(|(sink, role)| role[0] != "serve" || *sink != Sink::Limited);
    stream::iter(all).for_each_concurrent(AT_ONCE, |(sink, role)| role_with(sink, role)).await;
}

async fn role_with(sink: Sink, role: &'static [&'static str]) {
    let what = format!("{} with the log {sink:?}", role[0]);
    let folder = TempDir::new().expect("a temporary directory");
    let key = folder.path().join("key");
    std::fs::write(&key, "WXlm7c2Ue0Rr9vQkq4Zt1Jb8sNf3hPyA6dGoTiLx5Ew=").expect("a file");
    std::fs::set_permissions(&key, Permissions::from_mode(0o600)).expect("a file");
    let [address, admin] = free_addresses();
    let (listen, operators) = (address.to_string(), admin.to_string());
    let mut arguments = role.to_vec();
    arguments.extend(["--listen", &listen, "--admin-listen", &operators]);
    if !["serve", "presence"].contains(&role[0]) {
        arguments.extend(["--secret-file", key.to_str().expect("a UTF-8 path")]);
    }
    let (mut child, _reader) = sink.start(2, &folder, &arguments);
    let until = Instant::now() + TIMEOUT;
    while TcpStream::connect(admin).is_err() {
        assert_eq!(child.try_wait().expect("a child process"), None, "{what} has exited");
        assert!(Instant::now() < until, "{what} does not listen");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let alive = Request::get("/livez").send(Ipv4Addr::LOCALHOST, admin).await;
    assert_eq!(alive.status, 200, "{what}: {}", alive.body);
    // The standard library replaces a closed descriptor by /dev/null. With an unread pipe the lines stay in the queue.
    let fails = [Sink::ReadOnly, Sink::Full, Sink::Limited, Sink::NoReader].contains(&sink);
    while fails && lines_left_out(admin).await == 0 {
        assert!(Instant::now() < until, "{what} counts no dropped line");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill").success());
    assert_eq!(wait_for_exit(&what, &mut child).await.code(), Some(0), "{what}");
}

#[tokio::test]
async fn every_tool_exits_with_its_usual_status_while_the_log_is_blocked() {
    let folder = TempDir::new().expect("a temporary directory");
    let table: [(&[&str], i32); 6] = [
        (&["--help"], 0),
        (&["--version"], 0),
        (&["serve", "--listen", "nowhere"], 2),
        (&["seed", "--data-dir", "/dev/null/data"], 1),
        (&["healthcheck", "--admin-listen", "127.0.0.1:1"], 1),
        (&["accounts"], 2),
    ];
    for (sink, (arguments, status)) in SINKS.into_iter().flat_map(|sink| table.map(|row| (sink, row))) {
        let what = format!("{arguments:?} with the log {sink:?}");
        let (mut child, _reader) = sink.start(2, &folder, arguments);
        assert_eq!(wait_for_exit(&what, &mut child).await.code(), Some(status), "{what}");
    }
    for (sink, n) in SINKS.into_iter().zip(0..).filter(|(sink, _)| *sink != Sink::Limited) {
        let data = format!("data{n}");
        let arguments = ["seed", "--bcrypt-cost", "4", "--log", "debug", "--data-dir", &data];
        let what = format!("seed with the log {sink:?}");
        let (mut child, _reader) = sink.start(2, &folder, &arguments);
        assert_eq!(wait_for_exit(&what, &mut child).await.code(), Some(0), "{what}");
    }
}

#[tokio::test]
async fn output_that_cannot_be_written_is_an_error_and_a_closed_reader_is_not() {
    let folder = TempDir::new().expect("a temporary directory");
    let table = [
        (Sink::Closed, 0),
        (Sink::ReadOnly, 1),
        (Sink::Full, 1),
        (Sink::Limited, 1),
        (Sink::Unread, 1),
        (Sink::NonBlocking, 1),
        (Sink::NoReader, 0),
    ];
    for (sink, status) in table {
        // A tool waits some seconds for a pipe that is not read: run it once only.
        let all = [&["--help"][..], &["serve", "--help"], &["--version"]];
        for arguments in &all[..if [Sink::Unread, Sink::NonBlocking].contains(&sink) { 1 } else { 3 }] {
            let what = format!("{arguments:?} with the output {sink:?}");
            let (mut child, _reader) = sink.start(1, &folder, arguments);
            assert_eq!(wait_for_exit(&what, &mut child).await.code(), Some(status), "{what}");
        }
    }
}
