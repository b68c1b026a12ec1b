//! A TCP forwarder that can stop forwarding without closing a connection: to the server, this is how a lost network looks.
//! Used by `recovery`.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use super::with_timeout;

/// A forwarder to one server. Connections that are made after a stop are forwarded as usual.
pub struct FlakyNetwork {
    /// The address for clients.
    pub address: SocketAddr,
    /// The connections until now, in order.
    connections: Arc<Mutex<Vec<ForwardedConnection>>>,
}

/// One forwarded connection.
#[derive(Clone)]
struct ForwardedConnection {
    /// True stops the forwarding in both directions; neither end is closed.
    stopped: watch::Sender<bool>,
    /// True when the server has closed the connection.
    ended: watch::Receiver<bool>,
}

impl FlakyNetwork {
    /// Starts forwarding to `server`.
    pub async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket");
        let connections = Arc::new(Mutex::new(Vec::new()));
        let opened = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (stopped, silence) = watch::channel(false);
                let (end, ended) = watch::channel(false);
                opened
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(ForwardedConnection { stopped, ended });
                tokio::spawn(forward(client, server, silence, end));
            }
        });
        Self { address, connections }
    }

    /// Stops forwarding on all existing connections; returns their number.
    pub fn stop_forwarding(&self) -> usize {
        let connections = self.connections();
        connections.iter().for_each(|connection| {
            connection.stopped.send_replace(true);
        });
        connections.len()
    }

    /// Waits until the server has closed connection number `n`, counted from 0 in the order of arrival.
    pub async fn closed_by_server(&self, n: usize) {
        let mut ended = self.connections()[n].ended.clone();
        with_timeout("the server to end a stopped connection", ended.wait_for(|ended| *ended))
            .await
            .expect("watched");
    }

    /// Whether the server has closed connection `n`.
    pub fn is_closed_by_server(&self, n: usize) -> bool {
        *self.connections()[n].ended.borrow()
    }

    fn connections(&self) -> Vec<ForwardedConnection> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Forwards in both directions until an end or a stop; after a stop it keeps both ends open until the server closes its end.
async fn forward(
    client: TcpStream,
    server: SocketAddr,
    silence: watch::Receiver<bool>,
    end: watch::Sender<bool>,
) {
    let Ok(server) = TcpStream::connect(server).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let mut hush = silence.clone();
    let up = async {
        let closed = tokio::select! {
            biased;
            _ = hush.wait_for(|stopped| *stopped) => false,
            _ = tokio::io::copy(&mut from_client, &mut to_server) => true,
        };
        if closed {
            let _ = to_server.shutdown().await;
        }
        std::future::pending::<()>().await;
    };
    let down = async {
        let mut chunk = vec![0; 16 * 1024];
        loop {
            match from_server.read(&mut chunk).await {
                Ok(n) if n > 0 => {
                    // Bytes that arrive after the stop are dropped.
                    if !*silence.borrow() && to_client.write_all(&chunk[..n]).await.is_err() {
                        continue;
                    }
                }
                _ => break,
            }
        }
    };
    tokio::select! {
        () = up => {}
        () = down => {}
    }
    let _ = end.send(true);
    let _ = to_client.shutdown().await;
}
