//! The presence service on the wire: the server, its limits and its end. Called by the binary, which binds the listener;
//! calls the actor [`Roster`] through [`Service`].

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

/// The largest message that is taken, in bytes.
const MAX_DECODED: usize = 64 << 10;
/// The largest message that is sent, in bytes: the list of everybody online may be long.
const MAX_ENCODED: usize = 1 << 20;
/// How long a call may take; a stream only until it is open.
const CALL: Duration = Duration::from_secs(2);
/// How long open calls may go on when the service stops.
const DRAIN: Duration = Duration::from_secs(5);
/// After this long a connection is asked to come back as a new one; its open stream goes on.
const CONNECTION_AGE: Duration = Duration::from_secs(300);

/// The names under which the health service answers: the whole server, and the presence service.
const HEALTH: [&str; 2] = ["", <PresenceServiceServer<Service> as NamedService>::NAME];

/// The reflection services of both versions.
type Reflection<S, T> = (Option<v1::ServerReflectionServer<S>>, Option<v1alpha::ServerReflectionServer<T>>);

/// Runs the roster and its server on a thread of their own (an actix arbiter), so that no chat worker ever carries them.
/// Call it within an actix system. `listener` is bound already; the service ends some time after `shutdown` does, at most
/// 5 s later, and says through the receiver how.
///
/// The receiver fails only if the thread died, which is as bad as an error.
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
        // Nobody waits for the result when the process is ending anyway.
        let _ = ended.send(result);
        handle.stop();
    }));
    (roster, end)
}

/// Whether `roster` runs and answers. For `/readyz`, which keeps the time.
pub async fn answers(roster: &Addr<Roster>) -> bool {
    roster.send(Ping).await.is_ok()
}

/// Serves `roster`, and those of other deployments, on `listener`, on the current runtime, until `shutdown` ends; open calls then have 5 s. Streams end at
/// once and new ones are refused. Whoever calls this decides on which thread it runs; [`start`] is the usual way.
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
        .add_service(refusal::Exact(presence_service(rosters.clone(), &config)))
        .add_service(health_service)
        .add_optional_service(reflection)
        .add_optional_service(older_reflection);
    tracing::info!(address = %listener.local_addr()?, "presence listens");
    let (stopping, stopped) = oneshot::channel();
    let signal = async {
        shutdown.await;
        stop(health, &rosters).await;
        let _ = stopping.send(());
    };
    let incoming = incoming::accept(listener, config.presence_connections);
    tokio::select! {
        result = router.serve_with_incoming_shutdown(incoming, signal) => result.map_err(Error::Serve),
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

/// Reflection in both versions: many clients still ask for the older one. None unless the flag asks for it.
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

/// Says that the service is not there any more, to those who watch and to those who report. A status is cleared after it
/// is told, because a watch goes on for as long as there is something to watch.
async fn stop(mut health: HealthReporter, rosters: &Rosters) {
    for name in HEALTH {
        health.set_service_status(name, ServingStatus::NotServing).await;
        health.clear_service_status(name).await;
    }
    // A roster that does not answer has no streams to end either.
    for roster in rosters.all() {
        let _ = roster.send(Stop).await;
    }
}

/// Ends when a stopped service had its time.
async fn overdue(stopped: oneshot::Receiver<()>) {
    if stopped.await.is_err() {
        return std::future::pending().await;
    }
    tokio::time::sleep(DRAIN).await;
    tracing::warn!("presence calls were still open after the time to end");
}
