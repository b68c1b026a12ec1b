//! The environment that orchestrators give a process: variables of services and links, empty variables, systemd's notifications, limits,
//! and an empty environment.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::unix::{fs::PermissionsExt, net::UnixDatagram},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    config::{run, text},
    support::{Request, TIMEOUT, connect, free_addresses, program},
};

/// Variables by name.
type Variables = &'static [(&'static str, &'static str)];

/// A tool that reads the whole environment and then fails to connect: exit status 1.
const TOOL: [&str; 3] = ["healthcheck", "--admin-listen", "127.0.0.1:1"];

#[test]
fn variables_of_services_and_links_are_ignored() {
    let table: [&[(&str, &str)]; 10] = [
        &[
            ("GODZILLA_SERVICE_HOST", "10.0.171.239"),
            ("GODZILLA_SERVICE_PORT", "80"),
            ("GODZILLA_SERVICE_PORT_HTTP", "80"),
            ("GODZILLA_PORT", "tcp://10.0.171.239:80"),
            ("GODZILLA_PORT_80_TCP", "tcp://10.0.171.239:80"),
            ("GODZILLA_PORT_80_TCP_PROTO", "tcp"),
            ("GODZILLA_PORT_80_TCP_PORT", "80"),
            ("GODZILLA_PORT_80_TCP_ADDR", "10.0.171.239"),
        ],
        &[("GODZILLA_ADMIN_SERVICE_HOST", "fd00::1"), ("GODZILLA_ADMIN_PORT", "tcp://[fd00::1]:9100")],
        &[("GODZILLA_DNS_PORT_53_UDP", "udp://10.0.0.2:53")],
        &[("GODZILLA_SIGNAL_PORT_36412_SCTP_PROTO", "sctp")],
        &[("GODZILLA_NAME", "/web/godzilla"), ("GODZILLA_ENV_SOME_SETTING", "1"), ("GODZILLA_ENV_EMPTY", "")],
        &[("GODZILLA_PORT_8080_TCP_PORT_START", "8080"), ("GODZILLA_PORT_8080_TCP_PORT_END", "8090")],
        &[
            ("GODZILLA_PORT_8080_TCP_START", "tcp://172.17.0.5:8080"),
            ("GODZILLA_PORT_8080_TCP_END", "tcp://172.17.0.5:8090"),
        ],
        // Nomad, ECS, Cloud Run and Heroku.
        &[("NOMAD_PORT_http", "8080"), ("NOMAD_ALLOC_DIR", "/alloc"), ("NOMAD_SECRETS_DIR", "/secrets")],
        &[
            ("ECS_CONTAINER_METADATA_URI_V4", "http://169.254.170.2/v4/x"),
            ("AWS_EXECUTION_ENV", "AWS_ECS_FARGATE"),
        ],
        &[("PORT", "8080"), ("K_SERVICE", "godzilla"), ("DYNO", "web.1")],
    ];
    for variables in table {
        let output = run(&TOOL, variables);
        assert_eq!(output.status.code(), Some(1), "{variables:?}: {}", text(&output));
    }
}

#[test]
fn other_unknown_variables_stop_the_start_with_the_nearest_valid_name() {
    let table = [
        ("GODZILLA_LISTNE", "127.0.0.1:1", "GODZILLA_LISTEN"),
        ("GODZILLA_ADMIN_LISTENS", "127.0.0.1:1", "GODZILLA_ADMIN_LISTEN"),
        ("GODZILLA_TRUSTED_PROXIES", "10.0.0.1", "GODZILLA_TRUSTED_PROXY"),
        ("GODZILLA_PORT", "8080", "GODZILLA_PORT"),
        ("GODZILLA_SERVICE_HOST", "chat.example.org", "GODZILLA_SERVICE_HOST"),
    ];
    for (name, value, named) in table {
        let output = run(&TOOL, &[(name, value)]);
        let printed = text(&output);
        assert!(
            output.status.code() == Some(2) && printed.contains(name) && printed.contains(named),
            "{name}: {printed}"
        );
    }
}

#[test]
fn an_empty_unknown_variable_is_a_warning_at_the_start_and_of_the_doctor() {
    let table = [
        ("GODZILLA_FOO", ""),
        ("GODZILLA_ADMIN_LISTENS", "is it GODZILLA_ADMIN_LISTEN?"),
        ("GODZILLA_", ""),
        ("GODZILLA_SERVICE_HOSTS", ""),
    ];
    for (name, suggestion) in table {
        let started = run(&TOOL, &[(name, "")]);
        let printed = text(&started);
        assert_eq!(started.status.code(), Some(1), "{name}: {printed}");
        assert!(
            printed.contains(&format!("warning: the environment variable {name} is empty")),
            "{name}: {printed}"
        );
        assert!(printed.contains(suggestion), "{name}: {printed}");
        let doctor = ["doctor", "presence", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
        let printed = text(&run(&doctor, &[(name, "")]));
        let finds = |line: &str| line.starts_with("warning: environment: ") && line.contains(name);
        assert!(printed.lines().any(finds), "{name}: {printed}");
    }
}

#[test]
fn a_platform_that_assigns_the_port_is_reported_by_the_doctor() {
    let doctor = [
        "doctor",
        "serve",
        "--data-dir",
        "/tmp/absent",
        "--admin-listen",
        "127.0.0.1:0",
        "--presence-listen",
    ];
    let doctor = [&doctor[..], &["127.0.0.1:0", "--listen"]].concat();
    let table: [(&str, Variables, bool); 6] = [
        ("127.0.0.1:0", &[("PORT", "8181"), ("DYNO", "web.1")], true),
        ("127.0.0.1:0", &[("PORT", "8181"), ("K_SERVICE", "chat")], true),
        ("0.0.0.0:8181", &[("PORT", "8181"), ("K_SERVICE", "chat")], false),
        ("127.0.0.1:8181", &[("PORT", "8181"), ("K_SERVICE", "chat")], true),
        ("127.0.0.1:0", &[("PORT", "8181")], false),
        ("127.0.0.1:0", &[("K_SERVICE", "chat")], false),
    ];
    for (listen, variables, is_found) in table {
        let printed = text(&run(&[&doctor[..], &[listen]].concat(), variables));
        let finds = |line: &str| line.contains("environment: ") && line.contains("--listen 0.0.0.0:8181");
        assert_eq!(printed.lines().any(finds), is_found, "{listen} {variables:?}: {printed}");
    }
}

#[test]
fn an_empty_variable_is_treated_as_absent() {
    let help = text(&run(&["serve", "--help"], &[]));
    let names = help.split("[env: ").skip(1).filter_map(|rest| rest.split([']', '=']).next());
    let mut variables: Vec<(&str, &str)> = names.map(|name| (name, "")).collect();
    assert!(variables.len() > 30, "{variables:?}");
    variables.extend([
        ("GODZILLA_MONGO_URI", ""),
        ("GODZILLA_REDIS_URL_FILE", ""),
        ("GODZILLA_SECRET_FILE", ""),
    ]);
    // The data directory cannot be created, so that the start fails after the configuration was accepted.
    let data =
        ["serve", "--data-dir", "/dev/null/data", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    let output = run(&[&data[..], &["--presence-listen", "127.0.0.1:0"]].concat(), &variables);
    assert!(output.status.code() == Some(1) && text(&output).contains("--data-dir"), "{}", text(&output));
}

#[test]
fn a_mounted_secret_is_accepted_in_private_modes_and_refused_with_a_remedy_in_others() {
    let folder = TempDir::new().expect("a temporary directory");
    let key = folder.path().join("key");
    std::fs::write(&key, "WXlm7c2Ue0Rr9vQkq4Zt1Jb8sNf3hPyA6dGoTiLx5Ew=\n").expect("a file");
    // An invalid `--redis-url` is reported only after the key was accepted.
    let fixed =
        ["accounts", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--redis-url", "none"];
    let stores =
        ["--mongo-uri", "mongodb://127.0.0.1:1/", "--secret-file", key.to_str().expect("a UTF-8 path")];
    for (mode, words) in [
        (0o400, "--redis-url"),
        (0o440, "--redis-url"),
        (0o600, "--redis-url"),
        (0o640, "--redis-url"),
        (0o444, "defaultMode: 0440"),
        (0o644, "chmod 640"),
        (0o777, "chmod 640"),
    ] {
        std::fs::set_permissions(&key, PermissionsExt::from_mode(mode)).expect("a mode");
        let output = run(&[&fixed[..], &stores].concat(), &[]);
        let printed = text(&output);
        assert!(output.status.code() == Some(2) && printed.contains(words), "{mode:o}: {printed}");
    }
}

/// A running process of the program; killed on drop.
struct Started {
    child: Child,
    admin: SocketAddr,
    address: SocketAddr,
}

impl Started {
    /// Starts `role` through a shell that first runs `before`; the environment has only `variables`.
    fn start(before: &str, role: &str, more: &[&str], folder: &Path, variables: &[(&str, &str)]) -> Self {
        let [address, admin] = free_addresses();
        let command = Self::command(before, role, more, folder, (address, admin));
        Self::spawn(command, variables, (address, admin))
    }

    fn command(
        before: &str,
        role: &str,
        more: &[&str],
        folder: &Path,
        (address, admin): (SocketAddr, SocketAddr),
    ) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &format!(r#"{before}exec "$@""#), "sh"]).arg(program().get_program());
        command.args([role, "--listen", &address.to_string(), "--admin-listen", &admin.to_string()]);
        command.args(more).env_clear().current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    fn spawn(
        mut command: Command,
        variables: &[(&str, &str)],
        (address, admin): (SocketAddr, SocketAddr),
    ) -> Self {
        let child = command.envs(variables.iter().copied()).spawn().expect("a shell");
        let mut started = Self { child, admin, address };
        let until = Instant::now() + TIMEOUT;
        while TcpStream::connect(admin).is_err() || TcpStream::connect(address).is_err() {
            assert_eq!(started.child.try_wait().expect("a child process"), None, "the process exited");
            assert!(Instant::now() < until, "the process does not listen");
        }
        started
    }

    fn stop(&mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill").success());
        let until = Instant::now() + TIMEOUT;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().expect("a child process") {
                return status.code();
            }
            std::thread::yield_now();
        }
        panic!("still running after {TIMEOUT:?}");
    }

    async fn admin(&self, path: &str) -> (u16, String) {
        let answer = Request::get(path).send(Ipv4Addr::LOCALHOST, self.admin).await;
        (answer.status, answer.body)
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn systemd_is_notified_when_the_service_is_ready_alive_and_stopping() {
    let folder = TempDir::new().expect("a temporary directory");
    let path = folder.path().join("notify");
    let systemd = UnixDatagram::bind(&path).expect("a socket");
    systemd.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
    let next = || {
        let mut message = [0; 256];
        let length = systemd.recv(&mut message).expect("a message");
        String::from_utf8_lossy(&message[..length]).into_owned()
    };
    let until =
        |expected: &str| std::iter::repeat_with(next).take(100).any(|message| message.contains(expected));
    let socket = path.to_string_lossy().into_owned();
    let variables = [("NOTIFY_SOCKET", socket.as_str()), ("WATCHDOG_USEC", "10000000")];
    let mut started = Started::start("", "presence", &[], folder.path(), &variables);
    assert!(until("READY=1") && until("WATCHDOG=1"));
    assert_eq!(started.stop(), Some(0));
    assert!(until("STOPPING=1"));
}

#[tokio::test]
async fn an_empty_or_nonsensical_environment_is_sufficient() {
    let data = TempDir::new().expect("a temporary directory");
    let more = ["--presence-listen", "127.0.0.1:0", "--data-dir"];
    let table: [&[(&str, &str)]; 7] = [
        &[],
        // Variables of another process, and nonsensical values.
        &[("LISTEN_FDS", "1"), ("LISTEN_PID", "1"), ("WATCHDOG_USEC", "10000000"), ("WATCHDOG_PID", "1")],
        &[
            ("LISTEN_FDS", "many"),
            ("LISTEN_PID", "x"),
            ("WATCHDOG_USEC", "soon"),
            ("NOTIFY_SOCKET", "/nowhere"),
        ],
        &[
            ("STATE_DIRECTORY", "/nowhere"),
            ("CREDENTIALS_DIRECTORY", "/nowhere"),
            ("NOTIFY_SOCKET", ""),
            ("PORT", "1"),
        ],
        &[("HOME", ""), ("TZ", ""), ("LANG", "")],
        &[("HOME", "/nowhere"), ("TZ", "No/Where"), ("LANG", "xx_YY.UTF-9"), ("LC_ALL", "C")],
        &[("TMPDIR", "/nowhere"), ("SQLITE_TMPDIR", "/nowhere"), ("RUST_LOG", "!!"), ("NO_COLOR", "1")],
    ];
    for (n, variables) in table.into_iter().enumerate() {
        let folder = data.path().join(n.to_string());
        let more = [&more[..], &[folder.to_str().expect("a UTF-8 path")]].concat();
        // In this working directory no file can be created.
        let started = Started::start("", "serve", &more, Path::new("/proc"), variables);
        let until = Instant::now() + TIMEOUT;
        while started.admin("/readyz").await.0 != 200 {
            assert!(Instant::now() < until, "{variables:?}: {:?}", started.admin("/readyz").await);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test]
async fn every_thread_of_a_server_has_a_liveness_metric() {
    let data = TempDir::new().expect("a temporary directory");
    let folder = data.path().join("data");
    let more = ["--presence-listen", "127.0.0.1:0", "--data-dir", folder.to_str().expect("a UTF-8 path")];
    let started = Started::start("", "serve", &more, data.path(), &[]);
    let watched = |metrics: &str, name: &str| {
        metrics.contains(&format!(r#"godzilla_thread_heartbeat_age_seconds{{thread="{name}"}}"#))
    };
    let until = Instant::now() + TIMEOUT;
    for name in ["main", "http-1", "rooms", "outward", "presence"] {
        while !watched(&started.admin("/metrics").await.1, name) {
            assert!(Instant::now() < until, "{name} has no metric");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Opens `count` connections from each of these addresses of the loopback network and sends `text` on each.
async fn open_connections(
    to: SocketAddr,
    addresses: &[u8],
    count: usize,
    text: &str,
) -> Vec<tokio::net::TcpStream> {
    let mut connections = Vec::new();
    for from in addresses {
        for _ in 0..count {
            let mut client = connect(Ipv4Addr::new(127, 0, 0, *from), to).await;
            // A refusal shows when the connection is read.
            let _ = client.write_all(text.as_bytes()).await;
            connections.push(client);
        }
    }
    connections
}

#[tokio::test]
async fn when_clients_use_all_descriptors_the_admin_address_and_the_stores_still_have_some() {
    let data = TempDir::new().expect("a temporary directory");
    let folder = data.path().join("data");
    let fixed = ["--presence-listen", "127.0.0.1:0", "--login-rate", "10000", "--login-burst", "10000"];
    let slow = ["--body-timeout", "120", "--login-body-deadline", "2m", "--data-dir"];
    let more = [&fixed[..], &slow, &[folder.to_str().expect("a UTF-8 path")]].concat();
    let started = Started::start("ulimit -n 256; ", "serve", &more, data.path(), &[]);
    // More than the limit, from several addresses, each in the middle of a request; connections that are not accepted wait in the backlog.
    let login =
        "POST /user/login HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n";
    let clients = open_connections(started.address, &[1, 2, 3, 4], 100, login).await;
    let until = Instant::now() + TIMEOUT;
    loop {
        let (status, why) = started.admin("/readyz").await;
        if status == 503 && why.contains("files are open") {
            break;
        }
        assert!(Instant::now() < until, "{status} {why}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(started.admin("/livez").await.0, 200);
    drop(clients);
    while started.admin("/readyz").await.0 != 200 {
        assert!(Instant::now() < until, "{:?}", started.admin("/readyz").await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The files that the dynamic linker loads for the program, by their absolute paths.
fn libraries(program: &Path) -> Vec<String> {
    let listed = Command::new("ldd").arg(program).output().expect("ldd is installed");
    let listed = String::from_utf8(listed.stdout).expect("text");
    listed.split_whitespace().filter(|word| word.starts_with('/')).map(ToOwned::to_owned).collect()
}

#[tokio::test]
async fn a_file_system_with_only_the_program_and_its_data_is_sufficient() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let root = TempDir::new().expect("a temporary directory");
    let program = program();
    let program = Path::new(program.get_program());
    let copies = |from: &str, to: &str| {
        let to = root.path().join(to.trim_start_matches('/'));
        std::fs::create_dir_all(to.parent().expect("a path in a directory")).expect("a directory");
        std::fs::copy(from, to).expect("a copy");
    };
    libraries(program).iter().for_each(|library| copies(library, library));
    copies(program.to_str().expect("a path"), "/godzilla");
    let data = root.path().join("data");
    std::fs::create_dir(&data).expect("a directory");
    std::os::unix::fs::chown(&data, Some(65_532), Some(65_532)).expect("root changes owners");
    std::fs::set_permissions(root.path(), PermissionsExt::from_mode(0o555)).expect("a mode");
    let [address, admin] = free_addresses();
    let mut command = Command::new("/usr/sbin/chroot");
    // No /proc, /dev, /tmp or /etc, no user of that number, and only the data can be written.
    command.args(["--userspec=65532:65532"]).arg(root.path()).args([
        "/godzilla",
        "serve",
        "--data-dir",
        "/data",
    ]);
    command.args(["--listen", &address.to_string(), "--admin-listen", &admin.to_string()]);
    command.args(["--presence-listen", "127.0.0.1:0"]).env_clear().stdin(Stdio::null()).stdout(Stdio::null());
    let mut started = Started::spawn(command, &[], (address, admin));
    let until = Instant::now() + TIMEOUT;
    while started.admin("/readyz").await.0 != 200 {
        assert!(Instant::now() < until, "{:?}", started.admin("/readyz").await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let alice = serde_json::json!({"username": "alice", "password": "correct horse"});
    let registered = Request::post("/user/register", &alice).send(Ipv4Addr::LOCALHOST, address).await;
    assert_eq!(registered.status, 201, "{}", registered.body);
    assert_eq!(started.stop(), Some(0));
}

#[tokio::test]
async fn idle_connections_of_one_address_are_closed_for_new_connections() {
    let data = TempDir::new().expect("a temporary directory");
    let folder = data.path().join("data");
    let fixed = ["--presence-listen", "127.0.0.1:0", "--allow-token-clients", "--connect-timeout", "60s"];
    let more =
        [&fixed[..], &["--ping-interval", "60s", "--data-dir", folder.to_str().expect("a UTF-8 path")]]
            .concat();
    let started = Started::start("ulimit -n 256; ", "serve", &more, data.path(), &[]);
    let upgrade = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
    let mut socket = open_connections(started.address, &[7], 1, upgrade).await.remove(0);
    let mut opened = [0; 12];
    socket.read_exact(&mut opened).await.expect("a response");
    assert_eq!(&opened, b"HTTP/1.1 101");
    // Unused connections: after a response, before the first request, and within a head.
    for text in ["GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n", "", "GET /healthz HTTP/1.1\r\nHost: "] {
        let clients = open_connections(started.address, &[1, 2, 3], 150, text).await;
        for from in [1, 2, 9, 1, 2, 9] {
            let health = Request::get("/healthz").send(Ipv4Addr::new(127, 0, 0, from), started.address).await;
            assert_eq!(health.status, 200, "{text:?} from {from}");
        }
        assert_eq!(started.admin("/livez").await.0, 200);
        drop(clients);
    }
    // A WebSocket that sends nothing is not idle.
    let mut rest = [0; 4_096];
    while let Ok(count) = socket.try_read(&mut rest) {
        assert!(count > 0, "the WebSocket is closed");
    }
}
