//! rust_socketio against the real server. Its stacks of HTTP and TLS take minutes to build.

use std::path::PathBuf;

use tokio::process::Command;

use crate::support::{
    TestServer,
    programs::{env_path, run_to_end},
};

#[tokio::test]
async fn rust_socketio_exchanges_messages_over_every_transport() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let built = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/interop-rust/debug/rust-client");
    let mut command = Command::new(env_path("INTEROP_RUST_CLIENT").unwrap_or_else(|| built.into_os_string()));
    command.arg(format!("http://{}", server.system.address)).args([alice.token(), bob.token()]);
    run_to_end("rust-client", command).await;
}
