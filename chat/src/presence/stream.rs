//! The stream to the presence service and the patience to open it again: the client's task. Started by
//! [`super::Presence::start`]; calls the service's `Report`.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};
use proto::presence::{
    DEPLOYMENT, Heartbeat, NodeReport, RosterUpdate, node_report::Report,
    presence_service_client::PresenceServiceClient,
};
use tokio::{
    sync::{Notify, mpsc},
    time::{self, MissedTickBehavior, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, Streaming, transport::Endpoint};

use super::{Node, Patience, PresenceUpdate, Shared, local_connections::said};

/// How many reports may wait for the wire; the rest stay in [`super::local_connections::LocalConnections`], one per user.
const WAITING: usize = 64;
/// How long changes are gathered before they are reported.
const GATHER: Duration = Duration::from_millis(20);
/// The longest list the service sends, in bytes.
const MAX_UPDATE: usize = 1 << 20;

/// The task's world.
pub(super) struct Client {
    endpoint: Endpoint,
    node: Node,
    shared: Arc<Shared>,
    heard: mpsc::Sender<PresenceUpdate>,
    patience: Patience,
    /// The service said something.
    alive: Notify,
}

/// A stream that is open in both directions.
struct Open {
    say: mpsc::Sender<NodeReport>,
    updates: Streaming<RosterUpdate>,
}

/// How long to wait before the next attempt.
#[derive(Debug)]
struct Backoff {
    least: Duration,
    most: Duration,
    next: Duration,
}

impl Client {
    pub(super) fn new(
        url: &str,
        node: Node,
        shared: Arc<Shared>,
        heard: mpsc::Sender<PresenceUpdate>,
        patience: Patience,
    ) -> Result<Self, tonic::transport::Error> {
        let endpoint = Endpoint::from_shared(url.to_owned())?.connect_timeout(patience.connect);
        Ok(Self { endpoint, node, shared, heard, patience, alive: Notify::new() })
    }

    /// Ends when nobody hears what it hears.
    pub(super) async fn run(self: Arc<Self>) {
        // After a panic this begins anew.
        self.close();
        tokio::select! {
            () = self.keep_open() => {}
            () = self.watch() => {}
            () = self.heard.closed() => {}
        }
    }

    async fn keep_open(&self) {
        let mut backoff = Backoff::new(self.patience);
        let mut failures = 0_u32;
        loop {
            let opened = self.open().await;
            let since = Instant::now();
            let lost = match opened {
                Ok(open) => {
                    tracing::info!(node = self.node.name, "presence stream is open");
                    failures = 0;
                    self.follow(open).await
                }
                Err(refused) => refused,
            };
            self.close();
            failures = failures.saturating_add(1);
            complain(&lost, failures, self.shared.ends.load(Ordering::Relaxed));
            if since.elapsed() >= self.patience.most_wait {
                backoff.reset();
            }
            time::sleep(backoff.next()).await;
        }
    }

    /// Opens a stream with all that this node knows.
    async fn open(&self) -> Result<Open, Status> {
        let late = |_| Status::deadline_exceeded("no answer in time");
        let connecting = timeout(self.patience.connect, self.endpoint.connect());
        let channel =
            connecting.await.map_err(late)?.map_err(|error| Status::unavailable(error.to_string()))?;
        let mut client = PresenceServiceClient::new(channel).max_decoding_message_size(MAX_UPDATE);
        let (say, said) = mpsc::channel(WAITING);
        let first = self.shared.own().begin(&self.node.name);
        let reports = stream::iter(first).chain(ReceiverStream::new(said));
        let mut request = Request::new(reports);
        if !self.node.deployment.is_empty() {
            let name = self
                .node
                .deployment
                .parse()
                .map_err(|_| Status::internal("the deployment has no name of ASCII"))?;
            request.metadata_mut().insert(DEPLOYMENT, name);
        }
        let response = timeout(self.patience.open, client.report(request)).await.map_err(late)??;
        Ok(Open { say, updates: response.into_inner() })
    }

    fn close(&self) {
        self.shared.own().end();
        self.shared.mirror().end();
    }

    /// Reports and listens until the stream ends; answers why it did.
    async fn follow(&self, open: Open) -> Status {
        tokio::select! {
            lost = self.report(open.say) => lost,
            lost = self.listen(open.updates) => lost,
        }
    }

    async fn report(&self, say: mpsc::Sender<NodeReport>) -> Status {
        let mut beat = time::interval(self.patience.heartbeat);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let reports = tokio::select! {
                _ = beat.tick() => vec![said(Report::Heartbeat(Heartbeat {}))],
                () = self.shared.changed.notified() => {
                    time::sleep(GATHER).await;
                    self.shared.own().take()
                }
            };
            for report in reports {
                // Waits when the service does not read; then it does not speak either, and `listen` gives up.
                if say.send(report).await.is_err() {
                    return Status::cancelled("the service reads no more reports");
                }
            }
        }
    }

    async fn listen(&self, mut updates: Streaming<RosterUpdate>) -> Status {
        loop {
            match timeout(self.patience.silence, updates.message()).await {
                Ok(Ok(Some(update))) => self.hear(update).await,
                Ok(Ok(None)) => return Status::cancelled("the service ended the stream"),
                Ok(Err(status)) => return status,
                Err(_) => return Status::deadline_exceeded("the service is silent"),
            }
        }
    }

    async fn hear(&self, update: RosterUpdate) {
        self.alive.notify_one();
        let heard = self.shared.mirror().hear(update);
        for heard in heard {
            self.tell(heard).await;
        }
    }

    /// Says that who is here is unknown when nothing was heard for too long.
    async fn watch(&self) {
        loop {
            if timeout(self.patience.unknown, self.alive.notified()).await.is_ok() {
                continue;
            }
            let lost = self.shared.mirror().lose();
            if let Some(unknown) = lost {
                tracing::warn!("nothing is heard from presence, who is here is unknown");
                self.tell(unknown).await;
            }
        }
    }

    async fn tell(&self, heard: PresenceUpdate) {
        match heard {
            PresenceUpdate::Online { .. } => metrics::gauge!("godzilla_presence_known").set(1.0),
            PresenceUpdate::Unknown => metrics::gauge!("godzilla_presence_known").set(0.0),
            PresenceUpdate::Diff(_) | PresenceUpdate::Typing(_) => {}
        }
        // Fails only when the receiver is gone, and then the task ends.
        let _ = self.heard.send(heard).await;
    }
}

impl Backoff {
    fn new(patience: Patience) -> Self {
        Self { least: patience.least_wait, most: patience.most_wait, next: patience.least_wait }
    }

    /// Half of the wait is certain, the other half a matter of luck, so that nodes do not come back all at once.
    fn next(&mut self) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(self.most);
        let luck = getrandom::u32().unwrap_or(u32::MAX);
        wait / 2 + (wait / 2).mul_f64(f64::from(luck) / f64::from(u32::MAX))
    }

    fn reset(&mut self) {
        self.next = self.least;
    }
}

/// Logs why the stream is lost: as a warning the first time, unless the process ends.
fn complain(lost: &Status, failures: u32, ends: bool) {
    metrics::counter!("godzilla_presence_streams_lost_total").increment(1);
    if failures == 1 && !ends {
        tracing::warn!(code = ?lost.code(), reason = lost.message(), "presence stream is lost, trying again");
    } else {
        tracing::debug!(code = ?lost.code(), reason = lost.message(), failures, "presence is still away");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_most_and_start_over() {
        let mut backoff = Backoff::new(Patience::default());
        for most in [100, 200, 400, 800, 1_600, 2_000, 2_000] {
            let wait = backoff.next().as_millis();
            assert!((most / 2..=most).contains(&wait), "{wait} of {most}");
        }
        backoff.reset();
        assert!(backoff.next() <= Duration::from_millis(100));
    }
}
