//! The task of the presence client: keeps the stream to the service open and reopens it with a backoff. Started by
//! [`super::Presence::start`]; calls the service's `Report`.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};
use proto::presence::{
    DATABASE, DEPLOYMENT, Heartbeat, NodeReport, RosterUpdate, SERVICE_ID, node_report::Report,
    presence_service_client::PresenceServiceClient,
};
use tokio::{
    sync::{Notify, mpsc},
    time::{self, MissedTickBehavior, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status, Streaming, transport::Endpoint};

use super::{Node, PresenceUpdate, Shared, Timeouts, local_connections::node_report};

/// The maximum number of reports in the send channel. Further changes stay in [`super::local_connections::LocalConnections`], one per
/// user.
const REPORTS: usize = 64;
/// How long changes are collected before they are reported.
const GATHER: Duration = Duration::from_millis(20);
/// The maximum size of an update from the service, in bytes.
const MAX_UPDATE: usize = 1 << 20;

/// The state of the task.
pub(super) struct Client {
    endpoint: Endpoint,
    node: Node,
    shared: Arc<Shared>,
    updates: mpsc::Sender<PresenceUpdate>,
    timeouts: Timeouts,
    /// Notified when the service has sent an update.
    alive: Notify,
}

/// A stream that is open in both directions.
struct Open {
    reports: mpsc::Sender<NodeReport>,
    updates: Streaming<RosterUpdate>,
}

/// An exponential backoff with jitter.
#[derive(Debug)]
struct Backoff {
    min: Duration,
    max: Duration,
    next: Duration,
}

impl Client {
    pub(super) fn new(
        url: &str,
        node: Node,
        shared: Arc<Shared>,
        updates: mpsc::Sender<PresenceUpdate>,
        timeouts: Timeouts,
    ) -> Result<Self, tonic::transport::Error> {
        let endpoint = Endpoint::from_shared(url.to_owned())?.connect_timeout(timeouts.connect);
        Ok(Self { endpoint, node, shared, updates, timeouts, alive: Notify::new() })
    }

    /// Host and port of the service.
    pub(super) fn address(&self) -> String {
        let uri = self.endpoint.uri();
        let port = uri.port_u16().map(|port| format!(":{port}")).unwrap_or_default();
        format!("{}{port}", uri.host().unwrap_or_default())
    }

    /// Runs until the receiver of the updates is dropped.
    pub(super) async fn run(self: Arc<Self>) {
        // The task restarts here after a panic: the old stream is gone.
        self.close();
        tokio::select! {
            () = self.keep_open() => {}
            () = self.watch() => {}
            () = self.updates.closed() => {}
        }
    }

    async fn keep_open(&self) {
        let mut backoff = Backoff::new(self.timeouts);
        let (mut failures, mut has_opened) = (0_u32, false);
        loop {
            let opened = self.open().await;
            let since = Instant::now();
            let lost = match opened {
                Ok(open) => {
                    tracing::info!(node = self.node.name, "presence stream opened");
                    (failures, has_opened) = (0, true);
                    *self.shared.lost() = None;
                    self.follow(open).await
                }
                Err(refused) => refused,
            };
            self.close();
            *self.shared.lost() = Some(describe(&lost, has_opened));
            failures = failures.saturating_add(1);
            log_lost(&lost, failures, self.shared.is_ending.load(Ordering::Relaxed));
            if since.elapsed() >= self.timeouts.max_backoff {
                backoff.reset();
            }
            time::sleep(backoff.next()).await;
        }
    }

    /// Opens a stream and sends a snapshot of this node's connections.
    async fn open(&self) -> Result<Open, Status> {
        let late = |_| Status::deadline_exceeded("no answer in time");
        let connecting = timeout(self.timeouts.connect, self.endpoint.connect());
        let channel =
            connecting.await.map_err(late)?.map_err(|error| Status::unavailable(root_cause(&error)))?;
        let mut client = PresenceServiceClient::new(channel).max_decoding_message_size(MAX_UPDATE);
        let (reports, queue) = mpsc::channel(REPORTS);
        let snapshot = self.shared.local().start_stream(&self.node.name);
        let mut request = Request::new(stream::iter(snapshot).chain(ReceiverStream::new(queue)));
        let deployment = Some(&self.node.deployment).filter(|name| !name.is_empty());
        for (key, value) in [(DEPLOYMENT, deployment), (DATABASE, self.node.database.as_ref())] {
            let Some(value) = value else { continue };
            let value = value.parse().map_err(|_| Status::internal(format!("{key} is not ASCII")))?;
            request.metadata_mut().insert(key, value);
        }
        let response = timeout(self.timeouts.open, client.report(request)).await.map_err(late)??;
        let id = response.metadata().get(SERVICE_ID).and_then(|id| id.to_str().ok());
        *self.shared.service_id() = id.map(str::to_owned);
        Ok(Open { reports, updates: response.into_inner() })
    }

    fn close(&self) {
        *self.shared.service_id() = None;
        self.shared.local().end_stream();
        self.shared.mirror().end_stream();
    }

    /// Sends reports and receives updates until the stream ends. Returns the reason.
    async fn follow(&self, open: Open) -> Status {
        tokio::select! {
            lost = self.report(open.reports) => lost,
            lost = self.receive(open.updates) => lost,
        }
    }

    async fn report(&self, reports: mpsc::Sender<NodeReport>) -> Status {
        let mut beat = time::interval(self.timeouts.heartbeat);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let next = tokio::select! {
                _ = beat.tick() => vec![node_report(Report::Heartbeat(Heartbeat {}))],
                () = self.shared.changed.notified() => {
                    time::sleep(GATHER).await;
                    self.shared.local().take_reports()
                }
            };
            for report in next {
                // Waits while the service does not read. Such a service sends no updates either, and `receive` times out.
                if reports.send(report).await.is_err() {
                    return Status::cancelled("the service reads no more reports");
                }
            }
        }
    }

    async fn receive(&self, mut updates: Streaming<RosterUpdate>) -> Status {
        loop {
            match timeout(self.timeouts.silence, updates.message()).await {
                Ok(Ok(Some(update))) => self.handle(update).await,
                Ok(Ok(None)) => return Status::cancelled("the service ended the stream"),
                Ok(Err(status)) => return status,
                Err(_) => return Status::deadline_exceeded("the service is silent"),
            }
        }
    }

    async fn handle(&self, update: RosterUpdate) {
        self.alive.notify_one();
        let updates = self.shared.mirror().update(update);
        for update in updates {
            self.send(update).await;
        }
    }

    /// Sends [`PresenceUpdate::Unknown`] when no update was received for too long.
    async fn watch(&self) {
        loop {
            if timeout(self.timeouts.unknown, self.alive.notified()).await.is_ok() {
                continue;
            }
            let expired = self.shared.mirror().expire();
            if let Some(unknown) = expired {
                tracing::warn!("no update from presence received, the online users are unknown");
                self.send(unknown).await;
            }
        }
    }

    async fn send(&self, update: PresenceUpdate) {
        match update {
            PresenceUpdate::Online(_) => metrics::gauge!("godzilla_presence_up").set(1.0),
            PresenceUpdate::Unknown => metrics::gauge!("godzilla_presence_up").set(0.0),
            PresenceUpdate::Diff(_) | PresenceUpdate::Typing(_) => {}
        }
        // Fails only when the receiver was dropped, and then the task ends.
        let _ = self.updates.send(update).await;
    }
}

impl Backoff {
    fn new(timeouts: Timeouts) -> Self {
        Self { min: timeouts.min_backoff, max: timeouts.max_backoff, next: timeouts.min_backoff }
    }

    /// The next delay. Half of it is fixed and half is random, so that the nodes do not reconnect at the same time.
    fn next(&mut self) -> Duration {
        let delay = self.next;
        self.next = (delay * 2).min(self.max);
        let jitter = getrandom::u32().unwrap_or(u32::MAX);
        delay / 2 + (delay / 2).mul_f64(f64::from(jitter) / f64::from(u32::MAX))
    }

    fn reset(&mut self) {
        self.next = self.min;
    }
}

/// The last of the causes of an error. tonic's own texts omit it ("transport error").
fn root_cause(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.last().map(ToString::to_string).unwrap_or_default()
}

/// The cause for an operator. A status without a message has its code only. `has_opened` is whether presence has responded at this
/// address before.
fn describe(lost: &Status, has_opened: bool) -> String {
    let cause = match lost.message() {
        "" => lost.code().to_string(),
        message => message.to_owned(),
    };
    // Statuses that the client itself sets have other codes.
    let is_of_another = matches!(lost.code(), Code::Unimplemented | Code::Unknown | Code::Internal);
    match is_of_another && !has_opened {
        true => format!(
            "another program responds, not presence ({cause}): --presence-url (GODZILLA_PRESENCE_URL) must name the --listen address of \
             presence"
        ),
        false => cause,
    }
}

/// Logs why the stream was lost: the first failure as a warning, unless the process is shutting down.
fn log_lost(lost: &Status, failures: u32, is_ending: bool) {
    metrics::counter!("godzilla_presence_streams_lost_total").increment(1);
    if failures == 1 && !is_ending {
        tracing::warn!(code = ?lost.code(), reason = lost.message(), "presence stream lost, reconnecting");
    } else {
        tracing::debug!(code = ?lost.code(), reason = lost.message(), failures, "presence still unreachable, retrying");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_maximum_until_reset() {
        let mut backoff = Backoff::new(Timeouts::default());
        for max in [100, 200, 400, 800, 1_600, 2_000, 2_000] {
            let delay = backoff.next().as_millis();
            assert!((max / 2..=max).contains(&delay), "{delay} of {max}");
        }
        backoff.reset();
        assert!(backoff.next() <= Duration::from_millis(100));
    }
}
