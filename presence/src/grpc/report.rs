//! A node's stream: its snapshot opens it, its reports go to the roster, the roster's updates go back. Called by the
//! service; ends with the stream, or when the node is silent for the lease.

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

/// How long the roster may take to note a report.
const NOTED: Duration = Duration::from_secs(2);

/// Takes its node out of the roster when it is dropped, also by a panic: else the node's users stay until the lease ends.
struct Leaving {
    roster: Addr<Roster>,
    lease: Lease,
}

/// The parts of a snapshot that came so far.
#[derive(Debug, Default)]
struct Parts {
    node: String,
    users: Connections,
}

/// Opens the stream that `reports` asks for and answers with its updates. The caller limits how long this may take.
pub(super) async fn open(
    roster: Addr<Roster>,
    mut reports: Streaming<NodeReport>,
    lease: Duration,
) -> Result<impl Stream<Item = Result<RosterUpdate, Status>> + Send + use<>, Status> {
    let open = snapshot(&mut reports).await?;
    let opened = roster.send(open).await.map_err(Error::from)??;
    tokio::spawn(listen(roster, reports, opened.lease, lease));
    let updates = stream::iter(opened.first).chain(ReceiverStream::new(opened.updates));
    Ok(updates.map(Ok))
}

/// The snapshot that every stream begins with, all its parts.
async fn snapshot(reports: &mut Streaming<NodeReport>) -> Result<Open, Status> {
    let mut parts = Parts::default();
    loop {
        let report = reports.message().await.map_err(refusal::exact)?.and_then(|report| report.report);
        let Some(node_report::Report::Snapshot(snapshot)) = report else {
            return Err(Error::Report("a stream begins with a snapshot").into());
        };
        let more = snapshot.more;
        parts.add(snapshot)?;
        if !more {
            return Ok(Open { node: parts.node.parse()?, users: parts.users });
        }
    }
}

/// Hands every report to the roster until there are no more, and says then that the stream has ended.
async fn listen(roster: Addr<Roster>, mut reports: Streaming<NodeReport>, lease: Lease, silence: Duration) {
    let leaving = Leaving { roster, lease };
    let (roster, lease) = (&leaving.roster, &leaving.lease);
    let mut parts = Parts::default();
    while let Ok(Ok(Some(report))) = timeout(silence, reports.message()).await {
        metrics::counter!("godzilla_presence_reports_total").increment(1);
        supervision::fault!("report");
        if let Err(error) = pass_on(roster, lease, &mut parts, report).await {
            tracing::warn!(node = lease.node().as_str(), %error, "report refused, the stream is ended");
            break;
        }
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        // Bounded: once per stream.
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
    let noted = timeout(NOTED, roster.send(reported)).await.map_err(|_| Error::Unavailable)?;
    match noted? {
        Err(Error::Full) if volatile => Ok(()),
        other => other,
    }
}

impl Parts {
    /// What `report` says; none while parts of a snapshot are still to come.
    fn parse(&mut self, node: &Node, report: NodeReport) -> Result<Option<Report>, Error> {
        use node_report::Report as Wire;
        Ok(Some(match report.report {
            Some(Wire::Heartbeat(_)) => Report::Heartbeat,
            Some(Wire::Change(change)) => Report::Connections(name(&change.username)?, change.count),
            Some(Wire::Typing(typing)) => Report::Typing {
                user: name(&typing.username)?,
                room: room(&typing.room)?,
                is_typing: typing.is_typing,
            },
            Some(Wire::Snapshot(snapshot)) if snapshot.node == node.as_str() => {
                let more = snapshot.more;
                self.add(snapshot)?;
                if more {
                    return Ok(None);
                }
                Report::Everybody(std::mem::take(self).users)
            }
            Some(Wire::Snapshot(_)) => return Err(Error::Report("a stream speaks for one node")),
            None => return Err(Error::Report("a report that says nothing")),
        }))
    }

    fn add(&mut self, snapshot: Snapshot) -> Result<(), Error> {
        if self.users.is_empty() {
            self.node = snapshot.node;
        } else if self.node != snapshot.node {
            return Err(Error::Report("a snapshot speaks for one node"));
        }
        for user in snapshot.users {
            self.users.insert(name(&user.username)?, user.count);
        }
        if self.users.len() > MAX_USERS { Err(Error::Full) } else { Ok(()) }
    }
}
