//! The gRPC server of the presence service: limits, health, reflection and shutdown. The binary binds the listener.

mod flood;
mod incoming;
mod names;
mod refusal;
mod report;
mod rosters;
mod service;

use std::{future::Future, time::Duration};

use actix::prelude::*;
use proto::presence::{FILE_DESCRIPTOR_SET, presence_service_server::PresenceServiceServer};
use tokio::{net::TcpListener, sync::oneshot};
use tonic::{server::NamedService, transport::Server};
use tonic_health::{ServingStatus, server::HealthReporter};
use tonic_reflection::server::{v1, v1alpha};

use self::rosters::Rosters;
pub use self::service::Service;
use crate::{
    Config, Error,
    actor::{Ping, Roster, Stop},
};

/// Maximum size of a received message in bytes.
const MAX_DECODED: usize = 64 << 10;
/// Maximum size of a sent message in bytes. The list of users online can be long.
const MAX_ENCODED: usize = 1 << 20;
/// Timeout of a call. For a stream it covers the opening only.
const CALL: Duration = Duration::from_secs(2);
/// Time that open calls have after a shutdown begins.
const DRAIN: Duration = Duration::from_secs(5);
/// Maximum age of a connection. Then the client is asked to open a new one; open streams continue.
const CONNECTION_AGE: Duration = Duration::from_secs(300);

/// Service names of the health service: the whole server, and the presence service.
const HEALTH: [&str; 2] = ["", <PresenceServiceServer<Service> as NamedService>::NAME];

/// The reflection services of both versions.
type Reflection<S, T> = (Option<v1::ServerReflectionServer<S>>, Option<v1alpha::ServerReflectionServer<T>>);

/// Runs the roster and its server on a separate thread (an actix arbiter), so that they do not use a chat worker's time. Must be
/// called within an actix system. The service ends at most 5 s after `shutdown` completes. The receiver gets its result.
///
/// The receiver fails only if the thread ended, which callers treat as an error.
pub fn start<S>(
    listener: std::net::TcpListener,
    config: Config,
    shutdown: S,
) -> (Addr<Roster>, oneshot::Receiver<Result<(), Error>>)
where
    S: Future<Output = ()> + Send + 'static,
{
    let arbiter = Arbiter::new();
    let timings = config.timings();
    let roster = Roster::start_in_arbiter(&arbiter.handle(), move |_| Roster::new(timings));
    let (ended, end) = oneshot::channel();
    let handle = arbiter.handle();
    let of = roster.clone();
    arbiter.spawn(supervision::essential("presence server", async move {
        let result = match adopt(listener) {
            Ok(listener) => serve(listener, of, config, shutdown).await,
            Err(error) => Err(error.into()),
        };
        // The receiver is dropped when the process ends.
        let _ = ended.send(result);
        handle.stop();
    }));
    (roster, end)
}

/// Whether the actor `roster` responds. For `/readyz`, which applies a timeout.
pub async fn answers(roster: &Addr<Roster>) -> bool {
    roster.send(Ping).await.is_ok()
}

/// Serves `roster` and the rosters of other deployments on `listener` on the current runtime until `shutdown` completes. Then open
/// calls have 5 s, streams end at once, and new streams are refused. [`start`] runs it on a separate thread.
pub async fn serve<S>(
    listener: TcpListener,
    roster: Addr<Roster>,
    config: Config,
    shutdown: S,
) -> Result<(), Error>
where
    S: Future<Output = ()> + Send,
{
    let rosters = Rosters::new(&config.deployment, roster, Arbiter::current(), config.timings());
    let (health, health_service) = tonic_health::server::health_reporter();
    for name in HEALTH {
        health.set_service_status(name, ServingStatus::Serving).await;
    }
    let (reflection, older_reflection) = reflection(&config)?;
    let router = server()
        .add_service(refusal::CorrectStatus(presence_service(rosters.clone(), &config)))
        .add_service(health_service)
        .add_optional_service(reflection)
        .add_optional_service(older_reflection);
    tracing::info!(address = %listener.local_addr()?, "presence is listening");
    let (stopping, stopped) = oneshot::channel();
    let signal = async {
        shutdown.await;
        stop(health, &rosters).await;
        let _ = stopping.send(());
    };
    let connections = incoming::accept(listener, config.presence_connections);
    tokio::select! {
        result = router.serve_with_incoming_shutdown(connections, signal) => result.map_err(Error::Serve),
        () = overdue(stopped) => Ok(()),
    }
}

fn adopt(listener: std::net::TcpListener) -> std::io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

fn server() -> Server {
    Server::builder()
        .timeout(CALL)
        .concurrency_limit_per_connection(64)
        .load_shed(true)
        .max_concurrent_streams(128)
        .max_frame_size(16 << 10)
        .http2_max_header_list_size(8 << 10)
        .http2_keepalive_interval(Some(Duration::from_secs(20)))
        .http2_keepalive_timeout(Some(Duration::from_secs(5)))
        .http2_max_pending_accept_reset_streams(Some(20))
        .http2_max_local_error_reset_streams(Some(64))
        .max_connection_age(CONNECTION_AGE)
}

fn presence_service(rosters: Rosters, config: &Config) -> PresenceServiceServer<Service> {
    PresenceServiceServer::new(Service::new(rosters, config.presence_lease))
        .max_decoding_message_size(MAX_DECODED)
        .max_encoding_message_size(MAX_ENCODED)
}

/// The reflection services in both versions, because many clients use the older one. `None` unless enabled by flag.
fn reflection(
    config: &Config,
) -> Result<Reflection<impl v1::ServerReflection, impl v1alpha::ServerReflection>, Error> {
    if !config.grpc_reflection {
        return Ok((None, None));
    }
    let builder = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    Ok((Some(builder().build_v1()?), Some(builder().build_v1alpha()?)))
}

/// Reports the shutdown to health watchers and to reporting nodes. The status is cleared after it is published, because a watch
/// stays open while a status exists.
async fn stop(mut health: HealthReporter, rosters: &Rosters) {
    for name in HEALTH {
        health.set_service_status(name, ServingStatus::NotServing).await;
        health.clear_service_status(name).await;
    }
    // A roster that does not respond has no streams to end.
    for roster in rosters.all() {
        let _ = roster.send(Stop).await;
    }
}

/// Completes when the time for open calls after a stop has passed.
async fn overdue(stopped: oneshot::Receiver<()>) {
    if stopped.await.is_err() {
        return std::future::pending().await;
    }
    tokio::time::sleep(DRAIN).await;
    tracing::warn!("presence calls were still open at the end of the drain");
}
