//! Reports the state of accounts or of a chat node to the probes of gateways: the role, the name of the node, why it is not ready, and
//! the ids of its stores and of its presence service. A gateway sends new sessions and requests to other nodes while a node is not ready.
//! The state is checked periodically, so a response needs no store.

use std::{
    rc::Rc,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use actix_web::{
    HttpResponse,
    rt::{spawn, time::sleep},
    web,
};
use proto::{Refusal, RoleReport, role_report::PATH};
use serde_json::{Value, json};

use super::harness::Process;
use crate::supervision;

/// The pause between two checks.
const INTERVAL: Duration = Duration::from_secs(1);

/// The number of failed checks in succession after which the role is reported as not ready. A failure of a store that is
/// shorter than [`INTERVAL`] moves no users to other nodes.
const MIN_FAILURES: u32 = 2;

/// The last report. Cheap to clone.
#[derive(Clone)]
pub struct RoleReporter(Arc<Mutex<RoleReport>>);

impl RoleReporter {
    /// Checks the readiness of the role periodically. `ready` returns the report of the role while it is ready, which it is until the first
    /// checks have failed.
    pub fn start(ready: impl Fn() -> RoleReport + 'static, process: Process) -> Self {
        let reporter = Self(Arc::new(Mutex::new(ready())));
        let (ready, updated) = (Rc::new(ready), reporter.clone());
        spawn(supervision::restart("role report", move || {
            watch(ready.clone(), process.clone(), updated.clone())
        }));
        reporter
    }

    /// Mounts the target of probes. The caller verifies their signatures.
    pub fn mount(&self, service: &mut web::ServiceConfig) {
        let reporter = self.clone();
        service.route(
            PATH,
            web::get().to(move || {
                let response = reporter.response();
                async { response }
            }),
        );
    }

    fn response(&self) -> HttpResponse {
        let mut body = json!(Refusal::new(404, "Not Found"));
        if let (Value::Object(body), Value::Object(report)) = (&mut body, json!(*self.report())) {
            body.extend(report);
        }
        HttpResponse::NotFound().json(body)
    }

    fn report(&self) -> MutexGuard<'_, RoleReport> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn watch(ready: Rc<impl Fn() -> RoleReport>, process: Process, reporter: RoleReporter) {
    let mut failures = 0;
    loop {
        let cause = reported(process.readiness.role_not_ready_reason(process.role).await, &mut failures);
        let report = ready().with_cause(cause);
        *reporter.report() = report;
        sleep(INTERVAL).await;
    }
}

/// The cause to report after this result of a check, with the number of failed checks in succession.
fn reported(cause: Option<String>, failures: &mut u32) -> Option<String> {
    *failures = if cause.is_some() { failures.saturating_add(1) } else { 0 };
    cause.filter(|_| *failures >= MIN_FAILURES)
}

#[cfg(test)]
mod tests {
    use actix_web::body::to_bytes;
    use proto::role_report::CHAT;

    use super::*;

    #[test]
    fn a_cause_is_reported_after_two_failures_in_succession() {
        let mut failures = 0;
        let rows = [(true, false), (false, false), (true, false), (true, true), (true, true), (false, false)];
        for (row, (fails, is_reported)) in rows.into_iter().enumerate() {
            let cause = reported(fails.then(|| "MongoDB".to_owned()), &mut failures);
            assert_eq!(cause.is_some(), is_reported, "row {row}");
        }
    }

    /// Gateways of the releases before accept only 404.
    #[actix_web::test]
    async fn the_response_is_404_with_the_report() {
        let report =
            RoleReport::new(CHAT, Some("n1")).with_cause(Some("MongoDB refuses connections".to_owned()));
        let response = RoleReporter(Arc::new(Mutex::new(report.clone()))).response();
        assert_eq!(response.status().as_u16(), 404);
        let body = to_bytes(response.into_body()).await.unwrap();
        assert_eq!(RoleReport::parse(&body), report);
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&body["code"], &body["message"]), (&json!(404), &json!("Not Found")), "{body}");
    }
}
