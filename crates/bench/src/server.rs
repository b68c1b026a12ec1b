//! The server process: its resource usage from `/proc`, and its start and end if the scenario runs its own
//! server.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tempfile::TempDir;

use crate::Error;

/// The resource usage of a process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// Resident memory now, in bytes.
    pub resident: u64,
    /// The peak of the resident memory, in bytes.
    pub peak: u64,
    /// CPU time so far, in seconds.
    pub cpu: f64,
}

/// A server process for one scenario, with an empty store that is deleted on drop.
pub struct ServerProcess {
    child: Child,
    /// The address of its listener.
    pub address: SocketAddrV4,
    _data: TempDir,
}

impl Usage {
    /// Reads the usage of a process. `None` if it does not exist.
    pub fn of(pid: u32) -> Option<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let kib = |key: &str| -> Option<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(key))?;
            line.split_whitespace().next()?.parse().ok()
        };
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in parentheses may contain spaces. User and system time are the 12th and 13th fields after
        // it.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
        // USER_HZ is 100 on every Linux that Rust supports.
        Some(Self { resident: kib("VmRSS:")? * 1024, peak: kib("VmHWM:")? * 1024, cpu: ticks / 100.0 })
    }
}

impl ServerProcess {
    /// Starts `binary` with additional flags on free ports and waits until it listens.
    pub fn start(binary: &Path, flags: &[&str]) -> Result<Self, Error> {
        let data = TempDir::new()?;
        let [address, presence, admin] = free_addresses()?;
        let child = Command::new(binary)
            .args(["serve", "--listen", &address.to_string(), "--presence-listen", &presence.to_string()])
            .args(["--admin-listen", &admin.to_string(), "--bcrypt-cost", "4", "--data-dir"])
            .arg(data.path().join("data"))
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| format!("{}: {error}", binary.display()))?;
        let process = Self { child, address, _data: data };
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(address).is_err() {
            if Instant::now() > deadline {
                return Err("the server does not listen in time".into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(process)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Raises the limit of open files of this process and its children to the hard limit.
pub fn allow_many_files() -> Result<(), Error> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, most, most)?)
}

/// All sockets are bound at the same time, so that the ports differ.
fn free_addresses() -> Result<[SocketAddrV4; 3], Error> {
    let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let listeners = [bind()?, bind()?, bind()?];
    let mut addresses = [SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0); 3];
    for (listener, address) in listeners.iter().zip(&mut addresses) {
        address.set_port(listener.local_addr()?.port());
    }
    Ok(addresses)
}
