//! The report stream of a node. A snapshot opens it, reports go to the roster, and updates of the roster go to the node. The stream
//! ends when the client closes it or sends nothing for the lease time.

use std::time::Duration;

use actix::Addr;
use futures_util::{Stream, StreamExt, stream};
use proto::presence::{NodeReport, RosterUpdate, Snapshot, node_report};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{
    names::{name, room},
    refusal,
};
use crate::{
    Error,
    actor::{Ended, MAX_USERS, Open, Report, Reported, Roster},
    roster::{Connections, Lease, Node},
};

/// Timeout of the roster for one report.
const REPORT_TIMEOUT: Duration = Duration::from_secs(2);

/// Removes its node from the roster when it is dropped, also by a panic. Otherwise the node's users stay until the lease expires.
struct CloseOnDrop {
    roster: Addr<Roster>,
    lease: Lease,
}

/// The received parts of a snapshot.
#[derive(Debug, Default)]
struct Parts {
    node: String,
    users: Connections,
}

/// Opens a stream for `reports` of a node that uses this `database`, and returns its updates. The caller applies a timeout.
pub(super) async fn open(
    roster: Addr<Roster>,
    mut reports: Streaming<NodeReport>,
    database: Option<String>,
    lease: Duration,
) -> Result<impl Stream<Item = Result<RosterUpdate, Status>> + Send + use<>, Status> {
    let open = Open { database, ..snapshot(&mut reports).await? };
    let opened = roster.send(open).await.map_err(Error::from)??;
    tokio::spawn(receive(roster, reports, opened.lease, lease));
    let updates = stream::iter(opened.first).chain(ReceiverStream::new(opened.updates));
    Ok(updates.map(Ok))
}

/// Receives the first snapshot of a stream with all its parts.
async fn snapshot(reports: &mut Streaming<NodeReport>) -> Result<Open, Status> {
    let mut parts = Parts::default();
    loop {
        let report = reports.message().await.map_err(refusal::correct)?.and_then(|report| report.report);
        let Some(node_report::Report::Snapshot(snapshot)) = report else {
            return Err(Error::Report("a stream begins with a snapshot").into());
        };
        let more = snapshot.more;
        parts.add(snapshot)?;
        if !more {
            return Ok(Open { node: parts.node.parse()?, users: parts.users, database: None });
        }
    }
}

/// Passes reports to the roster until the stream ends.
async fn receive(roster: Addr<Roster>, mut reports: Streaming<NodeReport>, lease: Lease, max_idle: Duration) {
    let close_on_drop = CloseOnDrop { roster, lease };
    let (roster, lease) = (&close_on_drop.roster, &close_on_drop.lease);
    let mut parts = Parts::default();
    while let Ok(Ok(Some(report))) = timeout(max_idle, reports.message()).await {
        metrics::counter!("godzilla_presence_reports_total").increment(1);
        supervision::fault!("report");
        if let Err(error) = pass_on(roster, lease, &mut parts, report).await {
            tracing::warn!(node = lease.node().as_str(), %error, "report refused, closing the stream");
            break;
        }
    }
}

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        // Sent once per stream, so the number of messages is bounded.
        self.roster.do_send(Ended(self.lease.clone()));
    }
}

async fn pass_on(
    roster: &Addr<Roster>,
    lease: &Lease,
    parts: &mut Parts,
    report: NodeReport,
) -> Result<(), Error> {
    let Some(report) = parts.parse(lease.node(), report)? else { return Ok(()) };
    let volatile = matches!(report, Report::Typing { .. });
    let reported = Reported { lease: lease.clone(), report };
    let result = timeout(REPORT_TIMEOUT, roster.send(reported)).await.map_err(|_| Error::Unavailable)?;
    match result? {
        Err(Error::Full) if volatile => Ok(()),
        other => other,
    }
}

impl Parts {
    /// Converts `report`. Returns `None` while parts of a snapshot are missing.
    fn parse(&mut self, node: &Node, report: NodeReport) -> Result<Option<Report>, Error> {
        use node_report::Report as Message;
        Ok(Some(match report.report {
            Some(Message::Heartbeat(_)) => Report::Heartbeat,
            Some(Message::Change(change)) => Report::Connections(name(&change.username)?, change.count),
            Some(Message::Typing(typing)) => Report::Typing {
                user: name(&typing.username)?,
                room: room(&typing.room)?,
                is_typing: typing.is_typing,
            },
            Some(Message::Snapshot(snapshot)) if snapshot.node == node.as_str() => {
                let more = snapshot.more;
                self.add(snapshot)?;
                if more {
                    return Ok(None);
                }
                Report::Snapshot(std::mem::take(self).users)
            }
            Some(Message::Snapshot(_)) => return Err(Error::Report("a stream reports for one node")),
            None => return Err(Error::Report("an empty report")),
        }))
    }

    fn add(&mut self, snapshot: Snapshot) -> Result<(), Error> {
        if self.users.is_empty() {
            self.node = snapshot.node;
        } else if self.node != snapshot.node {
            return Err(Error::Report("a snapshot contains one node"));
        }
        for user in snapshot.users {
            self.users.insert(name(&user.username)?, user.count);
        }
        if self.users.len() > MAX_USERS { Err(Error::Full) } else { Ok(()) }
    }
}
