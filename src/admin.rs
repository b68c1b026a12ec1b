//! The listener for operators: `/metrics` for Prometheus, `/livez` and `/readyz` for orchestrators. Started by the
//! roles.

mod readiness;

use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use actix_web::{App, HttpResponse, dev::Server, guard, rt::spawn, web};
use metrics_exporter_prometheus::PrometheusHandle;
use proto::Refusal;
use serde_json::json;

pub use self::readiness::{Probe, Readiness, not_ready_unless};
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

/// The longest drain delay.
const MAX_DELAY: Duration = Duration::from_secs(600);

fn delay(text: &str) -> Result<Duration, &'static str> {
    let time = humantime::parse_duration(text).ok().filter(|time| *time <= MAX_DELAY);
    time.ok_or("expected a time such as 500ms, 10s or 2m, from 0s to 10m")
}

/// Creates the admin server on `listener`. The caller spawns it.
///
/// # Errors
/// When the listener cannot be used, or no thread can be started.
pub fn start(
    listener: TcpListener,
    readiness: Arc<Readiness>,
    metrics: PrometheusHandle,
    unfinished: http::Unfinished,
) -> Result<Server, Error> {
    heartbeat::watch("main");
    heartbeat::start(systemd::alive)?;
    let logged = readiness.clone();
    spawn(supervision::restart("readiness log", move || readiness::log_changes(logged.clone())));
    let server = http::serve(listener, http::Settings::operators(unfinished), move || {
        // The server omits the body of a response to HEAD.
        let reads = || web::route().guard(guard::Any(guard::Get()).or(guard::Head()));
        App::new()
            .app_data(web::Data::from(readiness.clone()))
            .app_data(web::Data::new(metrics.clone()))
            .route("/metrics", reads().to(rendered))
            .route("/livez", reads().to(alive))
            .route("/readyz", reads().to(ready))
            .configure(faults)
            .default_service(web::to(gateway::not_found))
            // The worker's service holds the part, so the end of the worker is the end of the part.
            .app_data(web::Data::new(supervision::Part::new("admin worker")))
    });
    server.map_err(|error| Error::part("admin", error))
}

async fn rendered(metrics: web::Data<PrometheusHandle>) -> HttpResponse {
    telemetry::count_dropped_lines();
    HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(metrics.render())
}

async fn alive() -> HttpResponse {
    match heartbeat::problem() {
        None => HttpResponse::Ok().json(json!({"status": "ok"})),
        Some(problem) => HttpResponse::ServiceUnavailable().json(Refusal::new(503, problem)),
    }
}

async fn ready(readiness: web::Data<Readiness>) -> HttpResponse {
    let report = readiness.report().await;
    match (report.problem, report.degradation) {
        (Some(problem), _) => HttpResponse::ServiceUnavailable().json(Refusal::new(503, problem)),
        (None, Some(problem)) => HttpResponse::Ok().json(json!({"status": "degraded", "message": problem})),
        (None, None) => HttpResponse::Ok().json(json!({"status": "ok"})),
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
