//! Roles whose stores have host names, while the DNS server answers wrongly or not at all. Needs root: only root can listen on
//! port 53 and replace `/etc/resolv.conf` for one process.

use std::{
    io::Write,
    net::{Ipv4Addr, UdpSocket},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use tempfile::NamedTempFile;
use testkit::{Mongo, Redis};

use super::{Role, key_file};
use crate::support::program;

/// The answers of the DNS server to all questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Mode {
    /// None.
    Silent,
    /// SERVFAIL.
    Fails,
    /// NXDOMAIN.
    Unknown,
    /// The records of [`HOST`] and [`RECORD`].
    Works,
}

/// The name in the address of MongoDB, with the SRV and TXT records.
const RECORD: &str = "db.chat.test";

/// The host in the SRV record.
const HOST: &str = "one.chat.test";

/// A DNS server; it ends with the test.
struct Dns {
    mode: Arc<AtomicU8>,
    /// The content of `resolv.conf` that names the server.
    configuration: NamedTempFile,
}

impl Dns {
    /// Starts the server on `address`. Its SRV record names `port`.
    fn start(address: Ipv4Addr, port: u16) -> Self {
        let socket = UdpSocket::bind((address, 53)).expect("root listens on port 53");
        let mode = Arc::new(AtomicU8::new(Mode::Silent as u8));
        let current = mode.clone();
        std::thread::spawn(move || {
            let mut query = [0; 1_500];
            while let Ok((length, peer)) = socket.recv_from(&mut query) {
                if let Some(answer) = answer(&query[..length], current.load(Ordering::Relaxed), port) {
                    _ = socket.send_to(&answer, peer);
                }
            }
        });
        let mut configuration = NamedTempFile::new().expect("a temporary file");
        write!(configuration, "nameserver {address}\noptions timeout:1 attempts:1\n").expect("a file");
        Self { mode, configuration }
    }

    fn set(&self, mode: Mode) {
        self.mode.store(mode as u8, Ordering::Relaxed);
    }

    /// Starts a role that uses this server, without waiting until it is ready.
    async fn start_role(&self, name: &str, mongo: &str, redis: &str, key: &str) -> Role {
        let mut command = Command::new("unshare");
        let script = r#"mount --bind "$0" /etc/resolv.conf && exec "$@""#;
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]);
        command.arg(self.configuration.path()).arg(program().get_program());
        Role::start_on_with(command, name, mongo, redis, key).await
    }
}

/// The response to a query with one question, in the form of RFC 1035.
fn answer(query: &[u8], mode: u8, port: u16) -> Option<Vec<u8>> {
    let (header, rest) = query.split_at_checked(12)?;
    let mut labels = Vec::new();
    let mut at = 0;
    while *rest.get(at)? > 0 {
        let length = usize::from(rest[at]);
        labels.push(String::from_utf8_lossy(rest.get(at + 1..at + 1 + length)?).to_lowercase());
        at += 1 + length;
    }
    let question = rest.get(..at + 5)?;
    let kind = u16::from_be_bytes([question[at + 1], question[at + 2]]);
    let (code, record) = match mode {
        mode if mode == Mode::Silent as u8 => return None,
        mode if mode == Mode::Fails as u8 => (2, None),
        mode if mode == Mode::Unknown as u8 => (3, None),
        _ => (0, record(&labels.join("."), kind, port)),
    };
    let mut answer = header[..2].to_vec();
    let records = u8::from(record.is_some());
    answer.extend([0x81, 0x80 | code, 0, 1, 0, records, 0, 0, 0, 0]);
    answer.extend(question);
    if let Some(record) = record {
        // The name of the question, class IN and a time to live of one second.
        answer.extend([0xc0, 12]);
        answer.extend(kind.to_be_bytes());
        answer.extend([0, 1, 0, 0, 0, 1]);
        answer.extend(u16::try_from(record.len()).ok()?.to_be_bytes());
        answer.extend(record);
    }
    Some(answer)
}

/// The data of the record of this name and kind.
fn record(name: &str, kind: u16, port: u16) -> Option<Vec<u8>> {
    const A: u16 = 1;
    const TXT: u16 = 16;
    const SRV: u16 = 33;
    match (name, kind) {
        (HOST, A) => Some(vec![127, 0, 0, 1]),
        (RECORD, TXT) => Some([&[14][..], b"replicaSet=rs0"].concat()),
        (name, SRV) if name == format!("_mongodb._tcp.{RECORD}") => {
            let mut data = vec![0, 0, 0, 0];
            data.extend(port.to_be_bytes());
            for label in HOST.split('.') {
                data.push(u8::try_from(label.len()).ok()?);
                data.extend(label.as_bytes());
            }
            data.push(0);
            Some(data)
        }
        _ => None,
    }
}

/// The port in the address of a store.
fn port_of(address: &str) -> u16 {
    let host = address.rsplit('@').next().expect("an address").trim_start_matches("mongodb://");
    host.split(['/', '?'])
        .next()
        .and_then(|host| host.rsplit(':').next())
        .and_then(|port| port.parse().ok())
        .expect("a port")
}

#[tokio::test]
async fn roles_wait_for_dns_and_report_why_it_gives_no_address() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let (mongo, redis) = (Mongo::start().await, Redis::start());
    let dns = Dns::start(Ipv4Addr::new(127, 0, 53, 1), port_of(&mongo.uri()));
    let key = key_file();
    let key = key.path().to_string_lossy();
    let srv = format!("mongodb+srv://{RECORD}/godzilla?tls=false");
    for name in ["accounts", "chat"] {
        dns.set(Mode::Silent);
        let mut role = dns.start_role(name, &srv, &redis.url(), &key).await;
        for (mode, words) in [
            (Mode::Silent, &["MongoDB", "DNS does not answer for db.chat.test", "since 2"]),
            (Mode::Unknown, &["MongoDB", "db.chat.test has no SRV records", "since 2"]),
            (Mode::Fails, &["MongoDB", "DNS does not answer for db.chat.test", "since 2"]),
        ] {
            dns.set(mode);
            role.wait_for_readiness(&format!("{name}, {mode:?}"), 503, words).await;
            assert_eq!(role.admin("/livez").await.0, 200, "{name}, {mode:?}");
        }
        dns.set(Mode::Works);
        role.wait_until_stores_work(&format!("{name} with DNS")).await;
        role.stop_in_time();
    }
}

#[tokio::test]
async fn roles_report_why_the_host_of_a_store_has_no_address() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let (mongo, redis) = (Mongo::start().await, Redis::start());
    let dns = Dns::start(Ipv4Addr::new(127, 0, 53, 2), port_of(&mongo.uri()));
    let key = key_file();
    let key = key.path().to_string_lossy();
    let named = |address: String| address.replace("127.0.0.1", HOST);
    let (other_mongo, other_redis) = (named(mongo.uri()), named(redis.url()));
    let cases = [
        // Before a chat node is in the table of nodes.
        ("gateway", &mongo.uri(), &other_redis, "Redis"),
        ("accounts", &other_mongo, &redis.url(), "MongoDB"),
        ("chat", &other_mongo, &redis.url(), "MongoDB"),
        ("accounts", &mongo.uri(), &other_redis, "Redis"),
    ];
    for (name, mongo, redis, store) in cases {
        dns.set(Mode::Fails);
        let role = dns.start_role(name, mongo, redis, &key).await;
        let what = format!("{name} and {store}");
        role.wait_for_readiness(&what, 503, &[store, "DNS does not answer"]).await;
        dns.set(Mode::Unknown);
        role.wait_for_readiness(&what, 503, &[store, "does not resolve"]).await;
        dns.set(Mode::Works);
        role.wait_until_stores_work(&what).await;
    }
}

#[tokio::test]
async fn a_role_that_waits_for_dns_ends_on_sigterm() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let dns = Dns::start(Ipv4Addr::new(127, 0, 53, 3), 1);
    let key = key_file();
    let key = key.path().to_string_lossy();
    let srv = format!("mongodb+srv://{RECORD}/godzilla?tls=false");
    for name in ["accounts", "chat"] {
        for mode in [Mode::Silent, Mode::Unknown, Mode::Fails] {
            dns.set(mode);
            let mut role = dns.start_role(name, &srv, "redis://127.0.0.1:1/0", &key).await;
            role.wait_for_readiness(&format!("{name}, {mode:?}"), 503, &["MongoDB cannot be found"]).await;
            role.stop_in_time();
        }
    }
}
