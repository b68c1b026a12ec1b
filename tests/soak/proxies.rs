//! Real proxies in front of the real server: the recipes of `docs/proxies`, and nginx as Socket.IO's documentation configures it. The
//! official client and a browser exchange messages through each, and the rate limit applies to each client's own address.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::support::{
    Request, TestServer, free_addresses,
    programs::{env_path, node, run_to_end},
};

/// The nginx configuration of Socket.IO's documentation; it does not forward the scheme, and `$host` has no port.
const DOCUMENTED: &str = "
server {
    listen 443 ssl;
    ssl_certificate     /etc/ssl/chat.example.org.pem;
    ssl_certificate_key /etc/ssl/chat.example.org.key;
    location / {
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_set_header Host $host;
        proxy_pass http://127.0.0.1:8080;
        proxy_http_version 1.1;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection \"upgrade\";
    }
}
";

/// A proxy that runs in its own directory; stopped on drop.
struct Proxy {
    child: Child,
    address: SocketAddr,
    _directory: TempDir,
}

impl Proxy {
    /// Starts `program` and waits until it listens.
    fn start(program: &str, arguments: &[&str], address: SocketAddr, directory: TempDir) -> Self {
        let log = fs::File::create(directory.path().join("output.log")).expect("a directory");
        let mut command = Command::new(
            env_path(format!("INTEROP_{}", program.to_uppercase())).unwrap_or_else(|| program.into()),
        );
        // Debian installs servers in directories that are not in the PATH of users.
        let path = format!("{}:/usr/sbin", std::env::var_os("PATH").unwrap_or_default().display());
        command.args(arguments).current_dir(directory.path()).env("PATH", path).env("HOME", directory.path());
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a file")).stderr(log);
        let child = command.spawn();
        let child = child.unwrap_or_else(|error| {
            panic!("{program} ({error}): scripts/test installs what this test needs")
        });
        let mut proxy = Self { child, address, _directory: directory };
        let until = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(address).is_err() {
            let output =
                || fs::read_to_string(proxy._directory.path().join("output.log")).unwrap_or_default();
            let ended = proxy.child.try_wait().expect("a child process");
            assert!(
                ended.is_none() && Instant::now() < until,
                "{program} does not listen: {ended:?} {}",
                output()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        proxy
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // nginx and HAProxy stop their workers on SIGTERM.
        _ = Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).status();
        _ = self.child.wait();
    }
}

/// A directory with a self-signed certificate for `localhost`.
fn with_certificate() -> TempDir {
    let directory = TempDir::new().expect("a temporary directory");
    let mut openssl = Command::new("openssl");
    openssl.current_dir(directory.path()).args(["req", "-x509", "-nodes", "-days", "2", "-newkey", "ec"]);
    openssl.args(["-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", "/CN=localhost"]);
    openssl.args(["-addext", "subjectAltName=DNS:localhost", "-keyout", "tls.key", "-out", "tls.pem"]);
    let output = openssl.output().expect("openssl: scripts/test installs what this test needs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    directory
}

fn recipe(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/proxies").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// `text` with the replacements; each replaced text must occur in it.
fn adapted(text: &str, changes: &[(&str, &str)]) -> String {
    changes.iter().fold(text.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from:?} is not in:\n{text}");
        text.replace(from, to)
    })
}

/// nginx with this server block, in the main file of a distribution.
fn nginx(block: &str, server: SocketAddr) -> Proxy {
    let (directory, [address]) = (with_certificate(), free_addresses());
    let block = adapted(
        block,
        &[
            ("listen 443 ssl", &format!("listen {address} ssl")),
            ("127.0.0.1:8080", &server.to_string()),
            ("/etc/ssl/chat.example.org", &format!("{}/tls", directory.path().display())),
        ],
    );
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary: String = temporary.iter().map(|name| format!("{name}_temp_path {name};\n")).collect();
    let main = format!(
        "daemon off; pid nginx.pid; error_log stderr; worker_processes 1;\n\
         events {{ worker_connections 512; }}\nhttp {{ access_log off;\n{temporary}{block}\n}}\n"
    );
    fs::write(directory.path().join("nginx.conf"), main).expect("a directory");
    let prefix = directory.path().to_string_lossy().into_owned();
    Proxy::start("nginx", &["-p", &prefix, "-c", "nginx.conf", "-e", "stderr"], address, directory)
}

fn haproxy(server: SocketAddr) -> Proxy {
    let (directory, [address]) = (with_certificate(), free_addresses());
    let both = ["tls.pem", "tls.key"]
        .map(|name| fs::read_to_string(directory.path().join(name)).expect("a file of openssl"));
    let pem = directory.path().join("both.pem");
    fs::write(&pem, both.concat()).expect("a directory");
    let text = adapted(
        &recipe("haproxy.cfg"),
        &[
            ("bind :443", &format!("bind {address}")),
            ("127.0.0.1:8080", &server.to_string()),
            ("/etc/ssl/chat.example.org.pem", &pem.to_string_lossy()),
        ],
    );
    fs::write(directory.path().join("haproxy.cfg"), text).expect("a directory");
    Proxy::start("haproxy", &["-db", "-f", "haproxy.cfg"], address, directory)
}

fn caddy(server: SocketAddr) -> Proxy {
    let (directory, [address]) = (with_certificate(), free_addresses());
    let site = format!(
        "{{\n\tadmin off\n\tauto_https disable_redirects\n\tstorage file_system {}\n}}\nhttps://localhost:{} {{\n\tbind 127.0.0.1\n\ttls tls.pem tls.key",
        directory.path().display(),
        address.port()
    );
    let text = adapted(
        &recipe("Caddyfile"),
        &[("chat.example.org {", &site), ("127.0.0.1:8080", &server.to_string())],
    );
    fs::write(directory.path().join("Caddyfile"), text).expect("a directory");
    Proxy::start("caddy", &["run", "--config", "Caddyfile", "--adapter", "caddyfile"], address, directory)
}

/// Flags of a server that trusts the proxies, but not the addresses of the script's clients.
const FLAGS: [&str; 6] = ["--trusted-proxy", "127.0.0.1", "--login-burst", "2", "--login-rate", "1"];

/// Runs the clients through the proxy that `start` puts in front of a server.
async fn run_clients(start: impl FnOnce(SocketAddr) -> Proxy) {
    let server = TestServer::start_with(&FLAGS).await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let carol = server.unregistered_user("carol");
    carol.register().await;
    let proxy = start(server.system.address);
    let mut command = node("proxied.mjs");
    command.arg(format!("https://localhost:{}", proxy.address.port())).args([alice.token(), bob.token()]);
    command
        .arg(env_path("INTEROP_CHROMIUM").unwrap_or_else(|| "/usr/bin/chromium".into()))
        .arg(&carol.password);
    run_to_end("proxied.mjs", command).await;
    let log = server.system.log();
    // A forged chain after a loopback address is reported as an untrusted proxy; no other warning may be logged.
    for warning in ["is not allowed", "names no client", "name different clients"] {
        assert!(!log.contains(warning), "{warning:?} is in:\n{log}");
    }
}

#[tokio::test]
async fn clients_exchange_messages_through_nginx() {
    run_clients(|server| nginx(&recipe("nginx.conf"), server)).await;
}

#[tokio::test]
async fn clients_exchange_messages_through_nginx_with_the_configuration_of_socket_io() {
    run_clients(|server| nginx(DOCUMENTED, server)).await;
}

#[tokio::test]
async fn clients_exchange_messages_through_haproxy() {
    run_clients(haproxy).await;
}

#[tokio::test]
async fn clients_exchange_messages_through_caddy() {
    run_clients(caddy).await;
}

/// The commonest mistake in nginx's configuration: WebSockets fail, and the log names the cause and the remedy.
#[tokio::test]
async fn a_proxy_that_drops_upgrades_is_named_with_the_remedy() {
    let server = TestServer::start_with(&["--trusted-proxy", "127.0.0.1", "--allow-token-clients"]).await;
    let [plain] = free_addresses();
    let listen = format!("listen {plain}; listen 443 ssl;");
    let upgrade = "proxy_set_header Upgrade $http_upgrade;";
    let block = adapted(DOCUMENTED, &[("listen 443 ssl;", listen.as_str()), (upgrade, "")]);
    let _proxy = nginx(&block, server.system.address);
    let request = Request::get("/socket.io/?EIO=4&transport=websocket");
    let request = request.header("Connection", "Upgrade").header("Upgrade", "websocket");
    request.send(Ipv4Addr::LOCALHOST, plain).await.expect(400);
    server.system.wait_for_log("transport=websocket without the header Upgrade").await;
    assert!(server.system.log().contains("docs/proxies.md"));
}

#[test]
fn the_document_has_the_tested_recipes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/proxies.md");
    let document = fs::read_to_string(path).expect("docs/proxies.md");
    for name in ["nginx.conf", "haproxy.cfg", "Caddyfile"] {
        assert!(document.contains(recipe(name).trim_end()), "{name} differs from docs/proxies.md");
    }
}
