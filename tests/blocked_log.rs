//! A log that cannot be written: standard error is full, a pipe that is not read or a pipe without a reader. The server works and stops
//! as with a writable log, and counts the dropped lines.

use std::{
    fs::File,
    io::{ErrorKind, PipeReader, Write},
    net::{Ipv4Addr, SocketAddr},
    os::fd::OwnedFd,
    time::Instant,
};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use crate::support::{Request, TIMEOUT, TestServer};

/// A standard error that cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sink {
    /// No space is left on the device.
    Full,
    /// A full pipe that is not read.
    Unread,
    /// A pipe whose reader is closed.
    NoReader,
}

impl Sink {
    fn open(self) -> (File, Option<PipeReader>) {
        if self == Self::Full {
            return (File::options().write(true).open("/dev/full").expect("a device"), None);
        }
        let (reader, mut writer) = std::io::pipe().expect("a pipe");
        let set = |writer: &_, flags| fcntl(writer, FcntlArg::F_SETFL(flags)).map(drop).expect("a flag");
        set(&writer, OFlag::O_NONBLOCK);
        let full = std::iter::repeat_with(|| writer.write(&[b'x'; 4096])).find_map(Result::err);
        assert_eq!(full.map(|error| error.kind()), Some(ErrorKind::WouldBlock));
        set(&writer, OFlag::empty());
        (File::from(OwnedFd::from(writer)), (self == Self::Unread).then_some(reader))
    }
}

async fn dropped_lines(admin: SocketAddr) -> usize {
    let metrics = Request::get("/metrics").send(Ipv4Addr::LOCALHOST, admin).await.expect(200).body;
    let count = metrics.lines().find_map(|line| line.strip_prefix("godzilla_log_lines_dropped_total "));
    count.and_then(|count| count.parse().ok()).unwrap_or_default()
}

#[tokio::test]
async fn messages_are_delivered_and_the_server_stops_on_sigterm_while_the_log_is_blocked() {
    for sink in [Sink::Full, Sink::Unread, Sink::NoReader] {
        let (log, _reader) = sink.open();
        // Level trace writes more lines than the queue holds.
        let mut server = TestServer::start_with_log(
            log,
            &["--log", "trace", "--message-rate", "10000", "--message-burst", "10000"],
        )
        .await;
        let mut reader = server.connected_user("reader").await;
        let mut sender = server.connected_user("sender").await;
        let until = Instant::now() + TIMEOUT;
        let mut sent = 0;
        while sent < 20 || sink == Sink::Unread && dropped_lines(server.system.admin).await == 0 {
            assert!(Instant::now() < until, "{sink:?}: no line was dropped");
            sent += 1;
            let text = format!("message {sent}");
            sender.send_message(&text).await;
            reader.receive_message(&text).await;
        }
        let alive = Request::get("/livez").send(Ipv4Addr::LOCALHOST, server.system.admin).await;
        assert_eq!(alive.status, 200, "{sink:?}: {}", alive.body);
        assert_eq!(server.system.stop().await.code(), Some(0), "{sink:?}");
    }
}
