//! Real proxies in front of the real server: the recipes of `docs/proxies`, and the one that Socket.IO's documentation has for nginx.
//! The official client and a browser chat through each, and each client is counted by its own address.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{
    interop::{finishes, given, node},
    support::{TestServer, free_addresses},
};

/// What Socket.IO's documentation tells users of nginx to write; it does not report the scheme, and `$host` has no port.
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

/// A proxy that runs in a directory of its own, until dropped.
struct Proxy {
    child: Child,
    address: SocketAddr,
    _directory: TempDir,
}

impl Proxy {
    /// Starts `program`, which must listen soon.
    fn starts(program: &str, arguments: &[&str], address: SocketAddr, directory: TempDir) -> Self {
        let log = fs::File::create(directory.path().join("output.log")).expect("our own directory");
        let mut command = Command::new(
            given(format!("INTEROP_{}", program.to_uppercase())).unwrap_or_else(|| program.into()),
        );
        // Packages of Debian put servers where the PATH of users does not look.
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
            let ended = proxy.child.try_wait().expect("our own child");
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
        // nginx and HAProxy end their workers on this.
        _ = Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).status();
        _ = self.child.wait();
    }
}

/// A directory with a certificate for `localhost` that is signed by itself.
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

/// `text` with each of the texts, which must be in it, replaced.
fn adapted(text: &str, changes: &[(&str, &str)]) -> String {
    changes.iter().fold(text.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from:?} is not in:\n{text}");
        text.replace(from, to)
    })
}

/// nginx with this server block, around what a distribution has in its main file.
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
    fs::write(directory.path().join("nginx.conf"), main).expect("our own directory");
    let prefix = directory.path().to_string_lossy().into_owned();
    Proxy::starts("nginx", &["-p", &prefix, "-c", "nginx.conf", "-e", "stderr"], address, directory)
}

fn haproxy(server: SocketAddr) -> Proxy {
    let (directory, [address]) = (with_certificate(), free_addresses());
    let both = ["tls.pem", "tls.key"]
        .map(|name| fs::read_to_string(directory.path().join(name)).expect("openssl made it"));
    let pem = directory.path().join("both.pem");
    fs::write(&pem, both.concat()).expect("our own directory");
    let text = adapted(
        &recipe("haproxy.cfg"),
        &[
            ("bind :443", &format!("bind {address}")),
            ("127.0.0.1:8080", &server.to_string()),
            ("/etc/ssl/chat.example.org.pem", &pem.to_string_lossy()),
        ],
    );
    fs::write(directory.path().join("haproxy.cfg"), text).expect("our own directory");
    Proxy::starts("haproxy", &["-db", "-f", "haproxy.cfg"], address, directory)
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
    fs::write(directory.path().join("Caddyfile"), text).expect("our own directory");
    Proxy::starts("caddy", &["run", "--config", "Caddyfile", "--adapter", "caddyfile"], address, directory)
}

/// A server that trusts the proxies, but none of the addresses that the script's clients have.
const FLAGS: [&str; 6] = ["--trusted-proxy", "127.0.0.1", "--login-burst", "2", "--login-rate", "1"];

/// People chat through the proxy that `start` puts in front of a server.
async fn carries(start: impl FnOnce(SocketAddr) -> Proxy) {
    let server = TestServer::start_with(&FLAGS).await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let carol = server.unregistered_user("carol");
    carol.register().await;
    let proxy = start(server.system.address);
    let mut command = node("proxied.mjs");
    command.arg(format!("https://localhost:{}", proxy.address.port())).args([alice.token(), bob.token()]);
    command.arg(given("INTEROP_CHROMIUM").unwrap_or_else(|| "/usr/bin/chromium".into())).arg(&carol.password);
    finishes("proxied.mjs", command).await;
    let log = server.system.log();
    // A forged chain behind a loopback address looks like a proxy that is not trusted; nothing else may be reported.
    for complaint in
        ["is not allowed", "names no client", "name different clients", "has no IP address", "neither http"]
    {
        assert!(!log.contains(complaint), "{complaint:?} is in:\n{log}");
    }
}

#[tokio::test]
async fn people_chat_through_nginx() {
    carries(|server| nginx(&recipe("nginx.conf"), server)).await;
}

#[tokio::test]
async fn people_chat_through_nginx_as_socket_io_documents_it() {
    carries(|server| nginx(DOCUMENTED, server)).await;
}

#[tokio::test]
async fn people_chat_through_haproxy() {
    carries(haproxy).await;
}

#[tokio::test]
async fn people_chat_through_caddy() {
    carries(caddy).await;
}

#[test]
fn readme_has_the_recipes_that_were_run() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md"))
        .expect("README.md is there");
    for name in ["nginx.conf", "haproxy.cfg", "Caddyfile"] {
        assert!(readme.contains(recipe(name).trim_end()), "{name} differs from README.md");
    }
}
