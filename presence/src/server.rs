//! The gRPC server: limits, health, reflection and shutdown. The binary binds the listener.

use std::{future::Future, io, time::Duration};

use actix::prelude::*;
use futures_util::{Stream, stream};
use proto::presence::{FILE_DESCRIPTOR_SET, presence_service_server::PresenceServiceServer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::oneshot,
    time::sleep,
};
use tonic::{server::NamedService, transport::Server};
use tonic_health::{ServingStatus, server::HealthReporter};
use tonic_reflection::server::{v1, v1alpha};

use crate::{
    Config, Error,
    roster::{Roster, Stop},
    service::Service,
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
/// Pause after an accept failed.
const PAUSE: Duration = Duration::from_millis(100);

/// Service names of the health service: the whole server, and the presence service.
const HEALTH: [&str; 2] = ["", <PresenceServiceServer<Service> as NamedService>::NAME];

/// The reflection services of both versions.
type Reflection<S, T> = (Option<v1::ServerReflectionServer<S>>, Option<v1alpha::ServerReflectionServer<T>>);

/// Runs the roster and its server on a separate thread (an actix arbiter), so that they do not use a chat worker's time. Must be
/// called within an actix system. The service ends at most 5 s after `shutdown` completes: streams end at once, and new ones are refused.
/// The receiver gets its result. It fails only if the thread ended, which callers treat as an error.
pub fn start<S>(
    listener: std::net::TcpListener,
    config: Config,
    shutdown: S,
) -> oneshot::Receiver<Result<(), Error>>
where
    S: Future<Output = ()> + Send + 'static,
{
    let arbiter = Arbiter::new();
    let handle = arbiter.handle();
    let empty = Roster::new(&config);
    let roster = Roster::start_in_arbiter(&handle, move |_| empty);
    let (ended, end) = oneshot::channel();
    let serving = async move {
        let result = serve(listener, roster, config, shutdown).await;
        // The receiver is dropped when the process ends.
        let _ = ended.send(result);
        handle.stop();
    };
    arbiter.spawn(supervision::essential("presence server", serving));
    end
}

async fn serve<S>(
    listener: std::net::TcpListener,
    roster: Addr<Roster>,
    config: Config,
    shutdown: S,
) -> Result<(), Error>
where
    S: Future<Output = ()> + Send,
{
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let (health, health_service) = tonic_health::server::health_reporter();
    for name in HEALTH {
        health.set_service_status(name, ServingStatus::Serving).await;
    }
    let service =
        PresenceServiceServer::new(Service { roster: roster.clone(), lease: config.presence_lease })
            .max_decoding_message_size(MAX_DECODED)
            .max_encoding_message_size(MAX_ENCODED);
    let (reflection, older_reflection) = reflection(&config)?;
    let router = server()
        .add_service(service)
        .add_service(health_service)
        .add_optional_service(reflection)
        .add_optional_service(older_reflection);
    tracing::info!(address = %listener.local_addr()?, "presence is listening");
    let (stopping, stopped) = oneshot::channel();
    let signal = async {
        shutdown.await;
        stop(health, &roster).await;
        let _ = stopping.send(());
    };
    tokio::select! {
        result = router.serve_with_incoming_shutdown(accept(listener), signal) => result.map_err(Error::Serve),
        () = overdue(stopped) => Ok(()),
    }
}

fn server() -> Server {
    Server::builder()
        .timeout(CALL)
        .concurrency_limit_per_connection(64)
        .load_shed(true)
        .max_concurrent_streams(128)
        .http2_max_header_list_size(8 << 10)
        .http2_keepalive_interval(Some(Duration::from_secs(20)))
        .http2_keepalive_timeout(Some(Duration::from_secs(5)))
        .max_connection_age(CONNECTION_AGE)
}

/// The connections of `listener`. Accepting pauses when the system has no descriptors left.
fn accept(listener: TcpListener) -> impl Stream<Item = io::Result<TcpStream>> {
    stream::unfold(listener, |listener| async {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    // A failure only delays small responses.
                    let _ = stream.set_nodelay(true);
                    return Some((Ok(stream), listener));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection cannot be accepted");
                    sleep(PAUSE).await;
                }
            }
        }
    })
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
async fn stop(mut health: HealthReporter, roster: &Addr<Roster>) {
    for name in HEALTH {
        health.set_service_status(name, ServingStatus::NotServing).await;
        health.clear_service_status(name).await;
    }
    let _ = roster.send(Stop).await;
}

/// Completes when the time for open calls after a stop has passed.
async fn overdue(stopped: oneshot::Receiver<()>) {
    if stopped.await.is_err() {
        return std::future::pending().await;
    }
    sleep(DRAIN).await;
    tracing::warn!("presence calls were still open at the end of the drain");
}
