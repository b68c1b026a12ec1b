//! The listener for operators: `/metrics` for Prometheus, `/livez` and `/readyz` for orchestrators. Started by the
//! roles. Queries the stores for their readiness.

mod opening;
mod readiness;
mod readiness_check;

use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use actix_web::{
    App, HttpResponse,
    dev::{Server, ServerHandle, Service, ServiceRequest},
    guard,
    http::StatusCode,
    rt::spawn,
    web,
};
use futures_util::future::BoxFuture;
use gateway::Hangup;
use metrics_exporter_prometheus::PrometheusHandle;
use proto::Refusal;
use serde_json::json;

#[cfg(feature = "mongodb")]
pub use self::opening::Waiting;
pub use self::{opening::Opening, readiness::Readiness};
use crate::{error::Error, heartbeat, http, supervision, systemd, telemetry};

/// What orchestrators need: the address of the listener for operators, and time to remove a process that ends.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
#[command(next_help_heading = "Admin")]
pub struct Config {
    /// Address of /metrics, /livez and /readyz; keep it away from the public
    #[arg(long, env = "GODZILLA_ADMIN_LISTEN", value_name = "IP:PORT", default_value = "127.0.0.1:9100",
          value_parser = proto::address::listen)]
    pub admin_listen: SocketAddr,
    /// Time after SIGTERM in which /readyz fails and requests are still accepted, so that load balancers remove this process
    /// before it refuses connections. By default 5s for gateway and accounts, else 0s. Other signals have no such time
    #[arg(long, env = "GODZILLA_DRAIN_DELAY", value_name = "TIME", value_parser = delay)]
    pub drain_delay: Option<Duration>,
}

fn delay(text: &str) -> Result<Duration, &'static str> {
    let time = humantime::parse_duration(text).ok().filter(|time| *time <= MAX_DELAY);
    time.ok_or("expected a time such as 500ms, 10s or 2m, from 0s to 10m")
}

/// The longest drain delay.
const MAX_DELAY: Duration = Duration::from_secs(600);

/// Checks one part. Resolves with the problem, as text that follows the name of the part, or with `None`.
pub type Probe = Box<dyn Fn() -> BoxFuture<'static, Option<String>> + Send + Sync>;

/// The result of a probe that only detects whether its part works.
pub fn not_ready_unless(works: bool) -> Option<String> {
    (!works).then(|| "does not answer".to_owned())
}

/// Creates the admin server on `listener`. Returns the server, which the caller spawns, and its handle.
pub fn start(
    listener: TcpListener,
    readiness: Arc<Readiness>,
    metrics: PrometheusHandle,
    unfinished_requests: http::UnfinishedRequests,
) -> Result<(Server, ServerHandle), Error> {
    heartbeat::watch("main");
    heartbeat::start(systemd::alive).map_err(|error| Error::part("heartbeat", error))?;
    let logged = readiness.clone();
    spawn(supervision::restart("readiness log", move || readiness::log_changes(logged.clone())));
    let server = http::serve(listener, http::Settings::operators(unfinished_requests), move || {
        worker_fault();
        // The server omits the body of a response to HEAD.
        let reads = || web::route().guard(guard::Any(guard::Get()).or(guard::Head()));
        App::new()
            .app_data(web::Data::from(readiness.clone()))
            .app_data(web::Data::new(metrics.clone()))
            .route("/metrics", reads().to(rendered))
            .route("/livez", reads().to(alive))
            .route("/readyz", reads().to(ready))
            .configure(faults)
            .default_service(web::to(not_found))
            // The worker's service holds the part, so the end of the worker is the end of the part.
            .app_data(web::Data::new(supervision::Part::new("admin worker")))
            .wrap_fn(|request, application| {
                // A connection whose request is in progress is not closed for a new one.
                let open = request.conn_data::<Hangup>().map(Hangup::begin);
                let answer = http::catch_panic(http::begin(|| {
                    fault_of(&request);
                    application.call(request)
                }));
                async move {
                    let answer = answer.await;
                    drop(open);
                    answer
                }
            })
    });
    let server = server.map_err(|error| Error::part("admin", error))?;
    let handle = server.handle();
    Ok((server, handle))
}

async fn rendered(metrics: web::Data<PrometheusHandle>) -> HttpResponse {
    telemetry::count_lost_lines();
    HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(metrics.render())
}

async fn alive() -> HttpResponse {
    answer(heartbeat::not_ready_reason().await)
}

async fn ready(readiness: web::Data<Readiness>) -> HttpResponse {
    let report = readiness.report().await;
    let not_ready_reason = match report.not_ready_reason {
        None => heartbeat::not_ready_reason().await,
        reason => reason,
    };
    let (status, mut body) = match (not_ready_reason, report.degradation) {
        (None, None) => (StatusCode::OK, json!({"status": "ok"})),
        (None, Some(degradation)) => (StatusCode::OK, json!({"status": "degraded", "message": degradation})),
        (Some(reason), _) => (StatusCode::SERVICE_UNAVAILABLE, json!(Refusal::new(503, reason))),
    };
    if !report.roles.is_empty() {
        body["roles"] = json!(report.roles);
    }
    HttpResponse::build(status).json(body)
}

fn answer(not_ready_reason: Option<String>) -> HttpResponse {
    match not_ready_reason {
        None => HttpResponse::Ok().json(json!({"status": "ok"})),
        Some(not_ready_reason) => {
            HttpResponse::ServiceUnavailable().json(Refusal::new(503, not_ready_reason))
        }
    }
}

/// `POST /debug/fault/{part}` makes a part panic, and `GET` returns whether the fault is still armed. For tests, in
/// debug builds only.
#[cfg(debug_assertions)]
fn faults(service: &mut web::ServiceConfig) {
    let inject = async |part: web::Path<String>| {
        supervision::inject(&part);
        HttpResponse::NoContent().finish()
    };
    let is_armed = async |part: web::Path<String>| HttpResponse::Ok().json(supervision::is_armed(&part));
    service.service(
        web::resource("/debug/fault/{part}").route(web::post().to(inject)).route(web::get().to(is_armed)),
    );
}

#[cfg(not(debug_assertions))]
fn faults(_: &mut web::ServiceConfig) {}

/// The fault of this server's worker: ends the thread that runs this.
fn worker_fault() {
    #[cfg(debug_assertions)]
    spawn(async {
        use futures_util::FutureExt;
        _ = std::panic::AssertUnwindSafe(supervision::fault::wait("admin worker")).catch_unwind().await;
        actix::Arbiter::current().stop();
    });
}

/// The fault of a request to this server. Requests that inject faults have no fault.
fn fault_of(request: &ServiceRequest) {
    if !request.path().starts_with("/debug/") {
        supervision::fault!("admin request");
    }
}

async fn not_found() -> HttpResponse {
    HttpResponse::NotFound().json(Refusal::new(404, "Not Found"))
}
