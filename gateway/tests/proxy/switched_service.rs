//! A service that the test lets work or fail in the ways in which services fail.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use cluster::Backend;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
};

use crate::support::recognizes_role;

/// How a service treats connections.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mode {
    /// Responds as a service of an older release that accepts the signature: without a report of its role.
    Works,
    /// Does not listen: killed.
    Refuses,
    /// Accepts and never responds: stopped by a signal, or unreachable behind a proxy that accepts.
    Hangs,
    /// Accepts and closes.
    Closes,
    /// Responds with this text.
    Responds(&'static str),
}

/// The response of a role to an anonymous request for a path of its users.
pub const UNAUTHORIZED: &str = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\n{}";

/// A service whose mode the test sets. Its connections end with each mode.
pub struct SwitchedService {
    pub backend: Backend,
    mode: watch::Sender<Mode>,
    /// The number of requests that are not probes of the gateway.
    requests: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl SwitchedService {
    pub fn start(mode: Mode) -> Self {
        let socket = bound(([127, 0, 0, 1], 0).into());
        let address = socket.local_addr().unwrap();
        let backend = format!("http://{address}").parse().unwrap();
        let (mode, mut watched) = watch::channel(mode);
        let requests = Arc::new(AtomicUsize::new(0));
        let counted = requests.clone();
        let task = actix_web::rt::spawn(async move {
            let mut socket = Some(socket);
            loop {
                let socket = socket.take().unwrap_or_else(|| bound(address));
                let mode = *watched.borrow_and_update();
                let outcome = async {
                    match mode {
                        // The port stays bound and refuses connections.
                        Mode::Refuses => std::future::pending().await,
                        _ => serve(socket.listen(64).unwrap(), mode, &counted).await,
                    }
                };
                tokio::select! {
                    () = outcome => {}
                    changed = watched.changed() => if changed.is_err() { return },
                }
            }
        });
        Self { backend, mode, requests, task }
    }

    /// The number of requests that are not probes of the gateway.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

impl Drop for SwitchedService {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn bound(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).unwrap();
    socket
}

async fn serve(listener: TcpListener, mode: Mode, requests: &Arc<AtomicUsize>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(respond(stream, mode, requests.clone()));
    }
}

async fn respond(mut stream: TcpStream, mode: Mode, requests: Arc<AtomicUsize>) {
    let response = match mode {
        Mode::Works => "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}",
        Mode::Responds(text) => text,
        Mode::Closes | Mode::Refuses => return,
        Mode::Hangs => std::future::pending().await,
    };
    let mut head = [0; 4_096];
    while let Ok(length @ 1..) = stream.read(&mut head).await {
        let head = String::from_utf8_lossy(&head[..length]);
        let is_recognition = recognizes_role(&head);
        if !is_recognition && !head.starts_with("GET /healthz ") {
            requests.fetch_add(1, Ordering::SeqCst);
        }
        let response = if mode == Mode::Works && is_recognition { UNAUTHORIZED } else { response };
        if stream.write_all(response.as_bytes()).await.is_err() {
            return;
        }
    }
}
