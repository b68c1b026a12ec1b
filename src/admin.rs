//! The listener for operators: `/metrics` for Prometheus, `/livez` and `/readyz` for orchestrators. Started by the
//! roles. Queries the stores for their readiness.

mod readiness_check;

use std::{
    collections::HashMap,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    time::{Duration, SystemTime},
};

use actix_web::{
    App, HttpResponse,
    dev::{Server, ServerHandle, Service, ServiceRequest},
    guard,
    http::header::ContentType,
    rt::{spawn, time::sleep},
    web,
};
use futures_util::future::{BoxFuture, join_all};
use metrics_exporter_prometheus::PrometheusHandle;
use proto::Refusal;

use self::readiness_check::ReadinessCheck;
use crate::{descriptors, entropy, error::Error, heartbeat, http, limits, supervision, systemd, telemetry};

/// Address of the listener for operators.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
#[command(next_help_heading = "Admin")]
pub struct Config {
    /// Address of /metrics, /livez and /readyz; keep it away from the public
    #[arg(long, env = "GODZILLA_ADMIN_LISTEN", value_name = "IP:PORT", default_value = "127.0.0.1:9100",
          value_parser = proto::address::listen)]
    pub admin_listen: SocketAddr,
}

/// Checks one part. Resolves with the problem, as text that follows the name of the part, or with `None`.
pub type Probe = Box<dyn Fn() -> BoxFuture<'static, Option<String>> + Send + Sync>;

/// The result of a probe that only detects whether its part works.
pub fn not_ready_unless(works: bool) -> Option<String> {
    (!works).then(|| "does not answer".to_owned())
}

/// Readiness of the process for requests.
pub struct Readiness {
    phase: AtomicU8,
    probes: Mutex<Vec<(&'static str, ReadinessCheck)>>,
    /// Checks of parts without which the process works in a degraded way.
    degrading: Mutex<Vec<(&'static str, ReadinessCheck)>>,
    /// When each current problem was first detected, by check.
    since: Mutex<HashMap<String, SystemTime>>,
}

const STARTING: u8 = 0;
const OPEN: u8 = 1;
const DRAINING: u8 = 2;

/// Interval of the checks for changes that are logged.
const LOG_INTERVAL: Duration = Duration::from_secs(5);

impl Readiness {
    /// Ready after [`Readiness::open`], while all `probes` succeed. Each probe has the name of its part.
    pub fn new(probes: Vec<(&'static str, Probe)>) -> Arc<Self> {
        let this = Self {
            phase: AtomicU8::new(STARTING),
            probes: Mutex::default(),
            degrading: Mutex::default(),
            since: Mutex::default(),
        };
        probes.into_iter().for_each(|(part, probe)| this.add(part, probe));
        Arc::new(this)
    }

    /// Adds the check of a part.
    pub fn add(&self, part: &'static str, probe: Probe) {
        lock(&self.probes).push((part, ReadinessCheck::new(probe)));
    }

    /// Adds the check of a part whose failure makes the process degraded, not unready.
    pub fn add_degrading(&self, part: &'static str, probe: Probe) {
        lock(&self.degrading).push((part, ReadinessCheck::new(probe)));
    }

    /// Marks the start as complete.
    pub fn open(&self) {
        self.phase.store(OPEN, Ordering::Relaxed);
        systemd::ready();
    }

    /// Marks the process as not ready, because it accepts no new requests.
    pub fn drain(&self) {
        self.phase.store(DRAINING, Ordering::Relaxed);
        systemd::stopping();
    }

    /// Why the process is not ready. `None` when it is.
    async fn not_ready_reason(&self) -> Option<String> {
        let phase = self.phase.load(Ordering::Relaxed);
        if phase == DRAINING {
            return Some("draining".to_owned());
        }
        let probes = lock(&self.probes).clone();
        let mut broken = self.ask(&probes, "").await;
        broken.extend(descriptors::not_ready_reason());
        broken.extend(entropy::not_ready_reason());
        broken.extend(limits::not_ready_reason());
        broken.extend(supervision::ended().into_iter().map(|part| format!("{part} has ended")));
        match broken.is_empty() {
            false => Some(broken.join("; ")),
            true => (phase == STARTING).then(|| "starting".to_owned()),
        }
    }
}

impl Readiness {
    /// Why a ready process is degraded. `None` when it is not.
    async fn degradation(&self) -> Option<String> {
        let degrading = lock(&self.degrading).clone();
        let broken = self.ask(&degrading, "degraded ").await;
        let words = (!broken.is_empty()).then(|| broken.join("; "));
        metrics::gauge!("godzilla_degraded").set(if words.is_some() { 1.0 } else { 0.0 });
        words
    }

    /// The problems of these parts, each with the time when it was first detected. One part can have several checks, also of different
    /// `kind`s, so the time belongs to the check.
    async fn ask(&self, probes: &[(&'static str, ReadinessCheck)], kind: &str) -> Vec<String> {
        let answers = probes.iter().map(async |(part, check)| (*part, check.ask().await));
        let answers = join_all(answers).await;
        let mut since = lock(&self.since);
        let mut broken = Vec::new();
        for (number, (part, not_ready_reason)) in answers.into_iter().enumerate() {
            let check = format!("{kind}{number} {part}");
            match not_ready_reason {
                None => drop(since.remove(&check)),
                Some(not_ready_reason) => {
                    let at = *since.entry(check).or_insert_with(SystemTime::now);
                    broken.push(format!(
                        "{part} {not_ready_reason} (since {})",
                        humantime::format_rfc3339_seconds(at)
                    ));
                }
            }
        }
        broken
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Logs the result of `/readyz` when it has changed, until the process drains.
async fn log_changes(readiness: Arc<Readiness>) {
    let mut last = Some((None, None));
    loop {
        sleep(LOG_INTERVAL).await;
        if readiness.phase.load(Ordering::Relaxed) == DRAINING {
            return;
        }
        let not_ready_reason = readiness.not_ready_reason().await;
        let degradation = readiness.degradation().await;
        let state = (not_ready_reason, degradation);
        if last.as_ref() != Some(&state) {
            match &state {
                (Some(not_ready_reason), _) => tracing::warn!(not_ready_reason, "not ready"),
                (None, Some(degradation)) => tracing::warn!(degradation, "ready, degraded"),
                (None, None) => tracing::info!("ready"),
            }
        }
        last = Some(state);
    }
}

/// Creates the admin server on `listener`. Returns the server, which the caller spawns, and its handle.
pub fn start(
    listener: TcpListener,
    readiness: Arc<Readiness>,
    metrics: PrometheusHandle,
) -> Result<(Server, ServerHandle), Error> {
    heartbeat::watch("main");
    heartbeat::start(systemd::alive).map_err(|error| Error::part("heartbeat", error))?;
    let logged = readiness.clone();
    spawn(supervision::restart("readiness log", move || log_changes(logged.clone())));
    let server = http::serve_operators(listener, move || {
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
                http::catch_panic(http::begin(|| {
                    fault_of(&request);
                    application.call(request)
                }))
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
    match readiness.not_ready_reason().await {
        None => match (heartbeat::not_ready_reason().await, readiness.degradation().await) {
            (None, Some(degradation)) => {
                HttpResponse::Ok().json(serde_json::json!({"status": "degraded", "message": degradation}))
            }
            (not_ready_reason, _) => answer(not_ready_reason),
        },
        not_ready_reason => answer(not_ready_reason),
    }
}

fn answer(not_ready_reason: Option<String>) -> HttpResponse {
    match not_ready_reason {
        None => HttpResponse::Ok().insert_header(ContentType::json()).body(r#"{"status":"ok"}"#),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(not_ready_reason: Option<&'static str>) -> Probe {
        Box::new(move || Box::pin(std::future::ready(not_ready_reason.map(str::to_owned))))
    }

    fn hanging() -> Probe {
        Box::new(|| Box::pin(std::future::pending()))
    }

    #[tokio::test]
    async fn a_process_is_ready_after_its_start_until_it_drains() {
        let readiness = Readiness::new(vec![("users", probe(None)), ("chat", probe(None))]);
        assert_eq!(readiness.not_ready_reason().await.as_deref(), Some("starting"));
        readiness.open();
        assert_eq!(readiness.not_ready_reason().await, None);
        readiness.drain();
        assert_eq!(readiness.not_ready_reason().await.as_deref(), Some("draining"));
    }

    fn panicking() -> Probe {
        Box::new(|| Box::pin(async { panic!("on purpose") }))
    }

    #[tokio::test]
    async fn a_part_that_fails_hangs_or_panics_is_named() {
        let parts = vec![
            ("users", probe(Some("has no rest"))),
            ("sessions", probe(None)),
            ("Redis", panicking()),
            ("MongoDB", Box::new(|| panic!("on purpose"))),
            ("chat", hanging()),
        ];
        let readiness = Readiness::new(parts);
        let not_ready_reason = readiness.not_ready_reason().await.unwrap_or_default();
        let parts: Vec<&str> =
            not_ready_reason.split("; ").map(|part| part.split(" (since 2").next().unwrap()).collect();
        let expected =
            ["users has no rest", "Redis does not answer", "MongoDB does not answer", "chat does not answer"];
        assert_eq!(parts, expected, "while it starts");
        readiness.open();
        assert_eq!(
            readiness.not_ready_reason().await,
            Some(not_ready_reason),
            "the time of the first check is kept"
        );
    }

    /// A part can have several checks. One that succeeds does not reset the time of another.
    #[tokio::test]
    async fn each_check_of_a_part_has_its_own_time() {
        let readiness = Readiness::new(vec![("Redis", probe(None))]);
        readiness.add_degrading("Redis", probe(Some("refuses XADD")));
        readiness.add_degrading("Redis", probe(None));
        readiness.open();
        let first = readiness.degradation().await;
        let check = lock(&readiness.since).keys().next().cloned().unwrap();
        lock(&readiness.since).insert(check, SystemTime::UNIX_EPOCH);
        assert_eq!(readiness.not_ready_reason().await, None);
        let second = readiness.degradation().await.unwrap_or_default();
        assert!(second.contains("(since 1970-01-01T00:00:00Z)"), "{first:?} {second}");
    }

    #[tokio::test]
    async fn a_failed_degrading_check_keeps_the_process_ready() {
        let readiness = Readiness::new(vec![("users", probe(None))]);
        readiness.add_degrading("log", probe(Some("is slow")));
        readiness.open();
        assert_eq!(readiness.not_ready_reason().await, None);
        let degradation = readiness.degradation().await.unwrap_or_default();
        assert!(degradation.starts_with("log is slow (since 2"), "{degradation}");
    }
}
