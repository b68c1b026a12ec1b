//! The server as a process: what it uses, by `/proc`, and, when a scenario starts its own, its life. Called by `lobby`.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tempfile::TempDir;

use crate::error::{Error, Tried};

/// What a process uses.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// Resident memory now, in bytes.
    pub resident: u64,
    /// The most it ever was.
    pub peak: u64,
    /// CPU time so far, in seconds.
    pub cpu: f64,
}

/// A server started for one scenario, with an empty store that is removed with it.
pub struct Started {
    child: Child,
    /// Where it listens.
    pub address: SocketAddrV4,
    _data: TempDir,
}

impl Usage {
    /// Reads it for a process; none when there is no such process (any more).
    pub fn of(pid: u32) -> Option<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let kib = |key: &str| -> Option<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(key))?;
            line.split_whitespace().next()?.parse().ok()
        };
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in parentheses may hold spaces; user and system time are the 12th and 13th fields after it.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
        // USER_HZ is 100 on every Linux that Rust runs on.
        Some(Self { resident: kib("VmRSS:")? * 1024, peak: kib("VmHWM:")? * 1024, cpu: ticks / 100.0 })
    }
}

impl Started {
    /// Starts `binary` on free ports and waits until it listens.
    pub fn start(binary: &Path) -> Result<Self, Error> {
        Self::start_with(binary, &[])
    }

    /// Starts `binary` with more flags than [`Started::start`] does.
    pub fn start_with(binary: &Path, flags: &[&str]) -> Result<Self, Error> {
        let data = TempDir::new().tried("a temporary directory")?;
        let [address, presence, admin] = free_addresses()?;
        let child = Command::new(binary)
            .args(["serve", "--listen", &address.to_string(), "--presence-listen", &presence.to_string()])
            .args(["--admin-listen", &admin.to_string(), "--bcrypt-cost", "4", "--data-dir"])
            .arg(data.path().join("data"))
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .tried("starting the server")?;
        let started = Self { child, address, _data: data };
        let until = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(address).is_err() {
            if Instant::now() > until {
                return Err(Error::Late("the server's start"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(started)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Allows this process (and servers it starts) as many open files as the system lets it; returns how many.
pub fn allow_many_files() -> Result<u64, Error> {
    let (_, most) =
        getrlimit(Resource::RLIMIT_NOFILE).map_err(io::Error::from).tried("reading the file limit")?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)
        .map_err(io::Error::from)
        .tried("raising the file limit")?;
    Ok(most)
}

/// Held together while choosing, so that they differ.
fn free_addresses() -> Result<[SocketAddrV4; 3], Error> {
    let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).tried("a free port");
    let listeners = [bind()?, bind()?, bind()?];
    let mut addresses = [SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0); 3];
    for (listener, address) in listeners.iter().zip(&mut addresses) {
        address.set_port(listener.local_addr().tried("a free port")?.port());
    }
    Ok(addresses)
}
