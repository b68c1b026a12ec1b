//! The task of the presence client: keeps the stream to the service open, reopens it with a backoff, and sends updates to clients when
//! they are due. Started by [`super::Presence::start`]; calls the service's `Report`.

use std::sync::Arc;

use futures_util::{StreamExt, stream};
use proto::presence::{
    Heartbeat, NodeReport, RosterUpdate, node_report::Report, presence_service_client::PresenceServiceClient,
};
use runtime::Backoff;
use tokio::{
    sync::{Notify, mpsc},
    time::{self, Duration, Instant, MissedTickBehavior, sleep_until, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, transport::Endpoint};

use super::{Shared, Timeouts, local_connections::node_report};
use crate::broker::Signal;

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
    node: String,
    shared: Arc<Shared>,
    signals: mpsc::Sender<Signal>,
    timeouts: Timeouts,
    /// Notified when the service has sent an update.
    alive: Notify,
    /// Notified when the time of the next update to clients may have changed.
    due: Notify,
}

/// A stream that is open in both directions.
struct Open {
    reports: mpsc::Sender<NodeReport>,
    updates: Streaming<RosterUpdate>,
}

impl Client {
    pub(super) fn new(
        url: &str,
        node: String,
        shared: Arc<Shared>,
        signals: mpsc::Sender<Signal>,
        timeouts: Timeouts,
    ) -> Result<Self, tonic::transport::Error> {
        let endpoint = Endpoint::from_shared(url.to_owned())?.connect_timeout(timeouts.connect);
        Ok(Self { endpoint, node, shared, signals, timeouts, alive: Notify::new(), due: Notify::new() })
    }

    /// Runs until the receiver of the signals is dropped.
    pub(super) async fn run(self: Arc<Self>) {
        // The task restarts here after a panic: the old stream is gone.
        self.close();
        tokio::select! {
            () = self.keep_open() => {}
            () = self.publish() => {}
            () = self.watch() => {}
            () = self.signals.closed() => {}
        }
    }

    async fn keep_open(&self) {
        let (first, max) = self.timeouts.backoff;
        let mut backoff = Backoff::new(first, max);
        loop {
            let opened = self.open().await;
            let since = Instant::now();
            let lost = match opened {
                Ok(open) => {
                    tracing::info!(node = self.node, "presence stream opened");
                    self.follow(open).await
                }
                Err(refused) => refused,
            };
            self.close();
            metrics::counter!("godzilla_presence_streams_lost_total").increment(1);
            let host = self.endpoint.uri().authority().map(ToString::to_string).unwrap_or_default();
            *self.shared.lost() = format!("at {host}: {}: {}", lost.code(), lost.message());
            tracing::debug!(code = ?lost.code(), reason = lost.message(), "presence stream lost, reconnecting");
            if since.elapsed() >= max {
                backoff.reset();
            }
            backoff.wait().await;
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
        let snapshot = self.shared.local().start_stream(&self.node);
        let reporting = client.report(stream::iter(snapshot).chain(ReceiverStream::new(queue)));
        let response = timeout(self.timeouts.open, reporting).await.map_err(late)??;
        Ok(Open { reports, updates: response.into_inner() })
    }

    fn close(&self) {
        self.shared.local().end_stream();
        self.shared.online().end_stream();
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
        let (signals, is_available) = {
            let mut online = self.shared.online();
            (online.update(update), online.users().is_some())
        };
        metrics::gauge!("godzilla_presence_up").set(f64::from(u8::from(is_available)));
        self.due.notify_one();
        for typing in signals {
            self.send(typing).await;
        }
    }

    /// Sends the changes of online users when they are due.
    async fn publish(&self) {
        loop {
            let due = self.shared.online().next_update();
            tokio::select! {
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    let signal = self.shared.online().take(Instant::now());
                    if let Some(signal) = signal {
                        self.send(signal).await;
                    }
                }
                () = self.due.notified() => {}
            }
        }
    }

    /// Makes the online users unknown when no update was received for too long.
    async fn watch(&self) {
        loop {
            if timeout(self.timeouts.unknown, self.alive.notified()).await.is_ok() {
                continue;
            }
            let has_changed = self.shared.online().expire();
            if has_changed {
                metrics::gauge!("godzilla_presence_up").set(0.0);
                let reason = self.shared.lost().clone();
                tracing::warn!(reason, "no update from presence received, the online users are unknown");
                self.due.notify_one();
            }
        }
    }

    async fn send(&self, signal: Signal) {
        // Fails only when the receiver was dropped, and then the task ends.
        let _ = self.signals.send(signal).await;
    }
}

/// The last of the causes of an error. tonic's own texts omit it ("transport error").
fn root_cause(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.last().map(ToString::to_string).unwrap_or_default()
}
