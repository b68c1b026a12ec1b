//! A TCP forwarder that can stop forwarding without closing anything: what a client's side of a connection looks like to a
//! server when the network between them is gone. Used by `recovery`.

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

/// A forwarder to one server. Connections that are made after a silence are forwarded as usual.
pub struct FlakyNetwork {
    /// Where clients connect.
    pub address: SocketAddr,
    /// The connections so far, in order.
    passages: Arc<Mutex<Vec<Passage>>>,
}

/// One forwarded connection.
#[derive(Clone)]
struct Passage {
    /// Nothing more passes, either way, and no end is told.
    silent: watch::Sender<bool>,
    /// The server has ended it.
    ended: watch::Receiver<bool>,
}

impl FlakyNetwork {
    /// Starts forwarding to `server`.
    pub async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket");
        let passages = Arc::new(Mutex::new(Vec::new()));
        let opened = Arc::clone(&passages);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (silent, silence) = watch::channel(false);
                let (end, ended) = watch::channel(false);
                opened.lock().unwrap_or_else(PoisonError::into_inner).push(Passage { silent, ended });
                tokio::spawn(forward(client, server, silence, end));
            }
        });
        Self { address, passages }
    }

    /// Falls silent on all connections there are; returns how many.
    pub fn falls_silent(&self) -> usize {
        let passages = self.passages();
        passages.iter().for_each(|passage| {
            passage.silent.send_replace(true);
        });
        passages.len()
    }

    /// Waits until the server has ended the connection that was made as number `n`, from 0.
    pub async fn is_ended_by_the_server(&self, n: usize) {
        let mut ended = self.passages()[n].ended.clone();
        with_timeout("the server to end a silent connection", ended.wait_for(|ended| *ended))
            .await
            .expect("watched");
    }

    /// Whether the server has ended connection `n` by now.
    pub fn has_ended(&self, n: usize) -> bool {
        *self.passages()[n].ended.borrow()
    }

    fn passages(&self) -> Vec<Passage> {
        self.passages.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Forwards both ways until an end, or until silence; then holds both ends open until the server ends its own.
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
            _ = hush.wait_for(|silent| *silent) => false,
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
                    // What is read in silence is lost.
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
