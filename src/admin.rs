//! The operator's own listener: `/metrics` for Prometheus, `/livez` and `/readyz` for orchestrators. Started by the roles;
//! asks the stores whether they answer.

mod inquiry;

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
    App, HttpResponse, HttpServer,
    dev::{Server, ServerHandle, Service, ServiceRequest},
    guard,
    http::header::ContentType,
    rt::{spawn, time::sleep},
    web,
};
use futures_util::future::{BoxFuture, join_all};
use metrics_exporter_prometheus::PrometheusHandle;
use proto::Refusal;

use self::inquiry::Inquiry;
use crate::{descriptors, entropy, error::Error, heartbeat, http, limits, supervision, systemd, telemetry};

/// Where operators ask.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
#[command(next_help_heading = "Admin")]
pub struct Config {
    /// Address of /metrics, /livez and /readyz; keep it away from the public
    #[arg(long, env = "GODZILLA_ADMIN_LISTEN", value_name = "IP:PORT", default_value = "127.0.0.1:9100",
          value_parser = proto::address::listen)]
    pub admin_listen: SocketAddr,
}

/// Asks one part whether it works. Answers with what is wrong, in words that go behind the name of the part.
pub type Probe = Box<dyn Fn() -> BoxFuture<'static, Option<String>> + Send + Sync>;

/// What a probe answers that knows no more than whether its part works.
pub fn unless(works: bool) -> Option<String> {
    (!works).then(|| "does not answer".to_owned())
}

/// Whether the process should be given work.
pub struct Readiness {
    phase: AtomicU8,
    probes: Mutex<Vec<(&'static str, Inquiry)>>,
    /// Of parts without which the process does its work, worse.
    degrading: Mutex<Vec<(&'static str, Inquiry)>>,
    /// What is wrong, and since when.
    since: Mutex<HashMap<String, SystemTime>>,
}

const STARTING: u8 = 0;
const OPEN: u8 = 1;
const DRAINING: u8 = 2;

/// How often it is looked at whether that has changed, for the log.
const LOOK: Duration = Duration::from_secs(5);

impl Readiness {
    /// Ready from [`Readiness::open`] on, while all `probes`, by the names of their parts, say so.
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

    /// One more part is to be asked.
    pub fn add(&self, part: &'static str, probe: Probe) {
        lock(&self.probes).push((part, Inquiry::new(probe)));
    }

    /// One more part is to be asked, whose failure makes the process degraded and not unready.
    pub fn add_degrading(&self, part: &'static str, probe: Probe) {
        lock(&self.degrading).push((part, Inquiry::new(probe)));
    }

    /// Everything has been started.
    pub fn open(&self) {
        self.phase.store(OPEN, Ordering::Relaxed);
        systemd::ready();
    }

    /// From now on not ready: no new work is wanted.
    pub fn drain(&self) {
        self.phase.store(DRAINING, Ordering::Relaxed);
        systemd::stopping();
    }

    /// Why not ready, if not.
    async fn not_ready_reason(&self) -> Option<String> {
        let phase = self.phase.load(Ordering::Relaxed);
        if phase == DRAINING {
            return Some("draining".to_owned());
        }
        let probes = lock(&self.probes).clone();
        let mut broken = self.ask(&probes).await;
        broken.extend(descriptors::not_ready_reason());
        broken.extend(entropy::not_ready_reason());
        broken.extend(limits::thread_obstacle());
        broken.extend(supervision::ended().into_iter().map(|part| format!("{part} has ended")));
        match broken.is_empty() {
            false => Some(broken.join("; ")),
            true => (phase == STARTING).then(|| "starting".to_owned()),
        }
    }
}

impl Readiness {
    /// What makes the process degraded, if it is ready.
    async fn degradation(&self) -> Option<String> {
        let degrading = lock(&self.degrading).clone();
        let broken = self.ask(&degrading).await;
        let words = (!broken.is_empty()).then(|| broken.join("; "));
        metrics::gauge!("godzilla_degraded").set(if words.is_some() { 1.0 } else { 0.0 });
        words
    }

    /// What is wrong with these parts, and since when it was first asked for.
    async fn ask(&self, probes: &[(&'static str, Inquiry)]) -> Vec<String> {
        let answers = probes.iter().map(async |(part, inquiry)| (*part, inquiry.ask().await));
        let answers = join_all(answers).await;
        let mut since = lock(&self.since);
        let mut broken = Vec::new();
        for (part, not_ready_reason) in answers {
            match not_ready_reason {
                None => drop(since.remove(part)),
                Some(not_ready_reason) => {
                    let at = *since.entry(part.to_owned()).or_insert_with(SystemTime::now);
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

/// Says in the log what `/readyz` says, whenever that has changed, until the process drains.
async fn tell(readiness: Arc<Readiness>) {
    let mut last = Some((None, None));
    loop {
        sleep(LOOK).await;
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

/// The admin server on `listener`, to be spawned, and its handle.
pub fn start(
    listener: TcpListener,
    readiness: Arc<Readiness>,
    metrics: PrometheusHandle,
) -> Result<(Server, ServerHandle), Error> {
    heartbeat::watch("main");
    heartbeat::start(systemd::alive).map_err(|error| Error::part("heartbeat", error))?;
    let told = readiness.clone();
    spawn(supervision::restart("readiness log", move || tell(told.clone())));
    let server = HttpServer::new(move || {
        worker_fault();
        // The server leaves out the body of an answer to HEAD.
        let reads = || web::route().guard(guard::Any(guard::Get()).or(guard::Head()));
        App::new()
            .app_data(web::Data::from(readiness.clone()))
            .app_data(web::Data::new(metrics.clone()))
            .route("/metrics", reads().to(rendered))
            .route("/livez", reads().to(alive))
            .route("/readyz", reads().to(ready))
            .configure(faults)
            .default_service(web::to(not_found))
            // Held by the worker's service, so that its end is the end of this.
            .app_data(web::Data::new(supervision::Part::new("admin worker")))
            .wrap_fn(|request, application| {
                http::guarded(http::begin(|| {
                    fault_of(&request);
                    application.call(request)
                }))
            })
    });
    let server = server
        .workers(1)
        .worker_max_blocking_threads(1)
        .disable_signals()
        .shutdown_timeout(1)
        .listen(listener)
        .map_err(|error| Error::part("admin", error))?
        .run();
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

/// `POST /debug/fault/{part}` makes a part panic, and `GET` answers whether it has yet: for tests, in debug builds only.
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

/// A fault of this server's worker, which runs this: its thread ends.
fn worker_fault() {
    #[cfg(debug_assertions)]
    spawn(async {
        use futures_util::FutureExt;
        _ = std::panic::AssertUnwindSafe(supervision::fault::wait("admin worker")).catch_unwind().await;
        actix::Arbiter::current().stop();
    });
}

/// The fault of a request to this server; those by which tests inject faults have none.
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
    async fn ready_is_who_has_all_parts_and_does_not_drain() {
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
            "the time is that of the first look"
        );
    }

    #[tokio::test]
    async fn degraded_is_who_works_worse() {
        let readiness = Readiness::new(vec![("users", probe(None))]);
        readiness.add_degrading("log", probe(Some("is slow")));
        readiness.open();
        assert_eq!(readiness.not_ready_reason().await, None);
        let degradation = readiness.degradation().await.unwrap_or_default();
        assert!(degradation.starts_with("log is slow (since 2"), "{degradation}");
    }
}
