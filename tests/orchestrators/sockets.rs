//! Socket activation: descriptors that systemd passes to the program.

use std::{
    fs::File,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::{fd::OwnedFd, unix::net::UnixListener},
    time::{Duration, Instant},
};

use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

use super::Started;
use crate::support::{Request, TIMEOUT, free_addresses};

/// What the program does with the passed descriptors.
enum Expected<'a> {
    /// It serves these hosts on the port of `--listen`.
    Served(&'a [&'a str]),
    /// It ends with status 2 and these words.
    Refused(&'a [&'a str]),
}

/// A listening socket on all addresses of IPv6 and a free port.
fn any_v6(only_v6: bool) -> (TcpListener, u16) {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, None).expect("IPv6 is available");
    socket.set_only_v6(only_v6).expect("an option");
    socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)).into()).expect("a free port");
    socket.listen(16).expect("a bound socket");
    let listener = TcpListener::from(socket);
    let port = listener.local_addr().expect("a bound socket").port();
    (listener, port)
}

fn on_loopback() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("a bound socket");
    (listener, address)
}

/// Runs the role presence with one or two passed descriptors.
async fn check(
    what: &str,
    passed: Vec<OwnedFd>,
    listen: SocketAddr,
    admin: SocketAddr,
    expected: Expected<'_>,
) {
    let folder = TempDir::new().expect("a temporary directory");
    let count = passed.len().to_string();
    let mut passed = passed.into_iter();
    let (first, second) = (passed.next().expect("a descriptor"), passed.next());
    // Passed descriptors begin with 3.
    let place = match second {
        None => "exec 3<&0 </dev/null; ",
        Some(_) => "exec 3<&0 4<&1 </dev/null >/dev/null; ",
    };
    let before = format!("export LISTEN_PID=$$; {place}");
    let mut command = Started::command(&before, "presence", &[], folder.path(), (listen, admin));
    command.stdin(first).env("LISTEN_FDS", &count).env("LISTEN_FDNAMES", "web:other");
    if let Some(second) = second {
        command.stdout(second);
    }
    match expected {
        Expected::Served(hosts) => {
            let mut started = Started::spawn(command, &[], (reachable(listen), admin));
            assert_eq!(started.admin("/readyz").await.0, 200, "{what}");
            for host in hosts {
                let address: SocketAddr = format!("{host}:{}", listen.port()).parse().expect("an address");
                assert!(TcpStream::connect(address).is_ok(), "{what}: {address}");
            }
            assert_eq!(started.stop(), Some(0), "{what}");
        }
        Expected::Refused(words) => {
            let log = folder.path().join("log");
            let mut refused = command.stderr(File::create(&log).expect("a file")).spawn().expect("a shell");
            let until = Instant::now() + TIMEOUT;
            let status = loop {
                match refused.try_wait().expect("a child process") {
                    Some(status) => break status.code(),
                    None if Instant::now() < until => tokio::time::sleep(Duration::from_millis(10)).await,
                    None => {
                        refused.kill().expect("a child process");
                        refused.wait().expect("a child process");
                        break None;
                    }
                }
            };
            let printed = std::fs::read_to_string(log).expect("a log");
            assert_eq!(status, Some(2), "{what}: {printed}");
            for word in words {
                assert!(printed.contains(word), "{what}, {word}: {printed}");
            }
        }
    }
}

fn reachable(address: SocketAddr) -> SocketAddr {
    match address.ip().is_unspecified() {
        true => (Ipv4Addr::LOCALHOST, address.port()).into(),
        false => address,
    }
}

#[tokio::test]
async fn a_socket_of_systemd_is_used_by_the_flag_with_its_address() {
    // This process holds the addresses, so that the program can only use the passed sockets.
    let (service, listen) = on_loopback();
    let (operators, operators_at) = on_loopback();
    let [admin] = free_addresses();
    let copy = |socket: &TcpListener| OwnedFd::from(socket.try_clone().expect("a descriptor"));
    check("one socket", vec![copy(&service)], listen, admin, Expected::Served(&["127.0.0.1"])).await;
    let both = vec![copy(&operators), copy(&service)];
    check("both sockets", both, listen, operators_at, Expected::Served(&["127.0.0.1"])).await;
    let (dual, port) = any_v6(false);
    let [admin] = free_addresses();
    let all_v4 = (Ipv4Addr::UNSPECIFIED, port).into();
    check("a dual-stack socket", vec![copy(&dual)], all_v4, admin, Expected::Served(&["127.0.0.1", "[::1]"]))
        .await;
    let [admin] = free_addresses();
    let all_v6 = (Ipv6Addr::UNSPECIFIED, port).into();
    check("the same by its address", vec![copy(&dual)], all_v6, admin, Expected::Served(&["[::1]"])).await;
}

#[tokio::test]
async fn the_start_refuses_a_passed_descriptor_that_it_cannot_serve() {
    let folder = TempDir::new().expect("a temporary directory");
    let (service, listen) = on_loopback();
    let (other, other_at) = on_loopback();
    let unused = other_at.to_string();
    let copy = |socket: &TcpListener| OwnedFd::from(socket.try_clone().expect("a descriptor"));
    let client = TcpStream::connect(other_at).expect("a connection");
    let (dual, dual_port) = any_v6(false);
    let (only_v6, only_v6_port) = any_v6(true);
    let unix = UnixListener::bind(folder.path().join("socket")).expect("a socket");
    let datagram = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let file = File::create(folder.path().join("file")).expect("a file");
    let port = |ip: Ipv4Addr, port: u16| SocketAddr::from((ip, port));
    let [free] = free_addresses();
    let flags = ["--listen", "--admin-listen", "ListenStream="];
    let unmatched = [&[&*unused, "FileDescriptorName=web"][..], &flags].concat();
    let beside = [&[&*unused, "FileDescriptorName=other"][..], &flags].concat();
    let table: Vec<(&str, Vec<OwnedFd>, SocketAddr, &[&str])> = vec![
        ("no flag", vec![copy(&other)], free, &unmatched),
        ("no flag, beside a used one", vec![copy(&service), copy(&other)], listen, &beside),
        (
            "twice",
            vec![copy(&service), copy(&service)],
            listen,
            &["two sockets", "(FileDescriptorName=other)"],
        ),
        (
            "a Unix socket",
            vec![unix.into()],
            free,
            &["descriptor 3", "FileDescriptorName=web", "Unix socket"],
        ),
        ("a datagram socket", vec![copy(&service), datagram.into()], listen, &["descriptor 4", "datagram"]),
        ("a file", vec![copy(&service), file.into()], listen, &["descriptor 4", "not a stream socket"]),
        ("a connection", vec![client.into()], free, &["descriptor 3", "Accept=no"]),
        (
            "IPv6 only",
            vec![copy(&only_v6)],
            port(Ipv4Addr::UNSPECIFIED, only_v6_port),
            &["[::]:", "--listen"],
        ),
        (
            "more than the flag",
            vec![copy(&dual)],
            port(Ipv4Addr::LOCALHOST, dual_port),
            &["[::]:", "--listen"],
        ),
    ];
    for (what, passed, listen, words) in table {
        let [admin] = free_addresses();
        check(what, passed, listen, admin, Expected::Refused(words)).await;
    }
}

#[tokio::test]
async fn sockets_for_another_process_are_ignored_with_a_warning() {
    let folder = TempDir::new().expect("a temporary directory");
    let log = folder.path().join("log");
    let [listen, admin] = free_addresses();
    let mut command = Started::command("", "presence", &[], folder.path(), (listen, admin));
    command.env("LISTEN_FDS", "1").env("LISTEN_PID", "1").stderr(File::create(&log).expect("a file"));
    let mut started = Started::spawn(command, &[], (listen, admin));
    let ready = Request::get("/readyz").send(Ipv4Addr::LOCALHOST, admin).await;
    assert_eq!(ready.status, 200, "{}", ready.body);
    assert_eq!(started.stop(), Some(0));
    let log = std::fs::read_to_string(log).expect("a log");
    assert!(log.contains("LISTEN_PID is the id of another process"), "{log}");
}
