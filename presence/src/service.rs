//! The calls of `presence.proto`. They validate names and change the roster.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use proto::{
    RoomName, Username,
    presence::{
        Empty, NodeReport, OnlineUsersResponse, SetTypingRequest, Snapshot, TypingUsersResponse, UserRequest,
        node_report::Report, presence_service_server::PresenceService,
    },
};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming, codegen::BoxStream};

use crate::{
    Error,
    roster::{MAX_USERS, Roster},
    state::{Connections, Lease},
};

/// The presence service in front of a roster.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    pub roster: Roster,
    /// A stream without reports for this long is ended.
    pub lease: Duration,
}

/// An open stream of a node. Its drop removes the node from the roster, also after a panic.
struct Reporter {
    roster: Roster,
    lease: Lease,
    /// The received parts of a snapshot.
    parts: Parts,
}

/// The received parts of a snapshot.
#[derive(Debug, Default)]
struct Parts {
    node: String,
    users: Connections,
}

impl Service {
    fn online(&self) -> Response<OnlineUsersResponse> {
        supervision::fault!("call");
        Response::new(OnlineUsersResponse { usernames: self.roster.online() })
    }

    fn count_call(&self) -> &Roster {
        metrics::counter!("godzilla_presence_calls_total").increment(1);
        &self.roster
    }
}

#[tonic::async_trait]
impl PresenceService for Service {
    type ReportStream = BoxStream<proto::presence::RosterUpdate>;

    async fn user_connected(
        &self,
        request: Request<UserRequest>,
    ) -> Result<Response<OnlineUsersResponse>, Status> {
        let user = name(&request.into_inner().username)?;
        self.count_call().with(|state, _| state.connected(user))?;
        Ok(self.online())
    }

    async fn user_disconnected(&self, request: Request<UserRequest>) -> Result<Response<Empty>, Status> {
        let user = name(&request.into_inner().username)?;
        self.count_call().with(|state, _| state.disconnected(user))?;
        Ok(Response::new(Empty {}))
    }

    async fn set_typing(&self, request: Request<SetTypingRequest>) -> Result<Response<Empty>, Status> {
        set_typing(self.count_call(), &request.into_inner())?;
        Ok(Response::new(Empty {}))
    }

    async fn get_online_users(&self, _: Request<Empty>) -> Result<Response<OnlineUsersResponse>, Status> {
        Ok(self.online())
    }

    async fn get_typing_users(&self, _: Request<Empty>) -> Result<Response<TypingUsersResponse>, Status> {
        Ok(Response::new(TypingUsersResponse { usernames: self.roster.typing_users() }))
    }

    async fn report(
        &self,
        request: Request<Streaming<NodeReport>>,
    ) -> Result<Response<Self::ReportStream>, Status> {
        let mut reports = request.into_inner();
        let snapshot = first_snapshot(&mut reports).await?;
        let opened = self.roster.open(&snapshot.node, snapshot.users)?;
        let reporter = Reporter { roster: self.roster.clone(), lease: opened.lease, parts: Parts::default() };
        tokio::spawn(reporter.receive(reports, self.lease));
        let updates = stream::iter(opened.first).chain(ReceiverStream::new(opened.updates));
        Ok(Response::new(Box::pin(updates.map(Ok))))
    }
}

/// Receives the first snapshot of a stream with all its parts.
async fn first_snapshot(reports: &mut Streaming<NodeReport>) -> Result<Parts, Status> {
    let mut parts = Parts::default();
    loop {
        let report = reports.message().await?.and_then(|report| report.report);
        let Some(Report::Snapshot(snapshot)) = report else {
            return Err(Error::Report("a stream begins with a snapshot").into());
        };
        if parts.add(snapshot)? {
            return Ok(parts);
        }
    }
}

impl Reporter {
    /// Passes reports to the roster until the stream ends, or is silent for `max_idle`.
    async fn receive(mut self, mut reports: Streaming<NodeReport>, max_idle: Duration) {
        while let Ok(Ok(Some(report))) = timeout(max_idle, reports.message()).await {
            metrics::counter!("godzilla_presence_reports_total").increment(1);
            supervision::fault!("report");
            if let Err(error) = self.apply(report) {
                tracing::warn!(node = self.lease.node(), %error, "report refused, closing the stream");
                break;
            }
        }
    }

    fn apply(&mut self, report: NodeReport) -> Result<(), Error> {
        let (roster, lease) = (&self.roster, &self.lease);
        match report.report {
            Some(Report::Heartbeat(_)) => roster.with(|state, now| state.heartbeat(lease, now)),
            Some(Report::Change(change)) => {
                let user = name(&change.username)?;
                roster.with(|state, now| state.change(lease, user, change.count, now))
            }
            Some(Report::Typing(typing)) => {
                roster.with(|state, now| state.heartbeat(lease, now))?;
                match set_typing(roster, &typing) {
                    // Typing is short-lived: a full roster drops it.
                    Err(Error::Full) => Ok(()),
                    other => other,
                }
            }
            Some(Report::Snapshot(snapshot)) if snapshot.node == lease.node() => {
                if !self.parts.add(snapshot)? {
                    return Ok(());
                }
                let users = std::mem::take(&mut self.parts).users;
                roster.with(|state, now| state.replace(lease, users, now))
            }
            Some(Report::Snapshot(_)) => Err(Error::Report("a stream reports for one node")),
            None => Err(Error::Report("an empty report")),
        }
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.roster.end(&self.lease);
    }
}

impl Parts {
    /// Adds a part. Returns whether it is the last one.
    fn add(&mut self, snapshot: Snapshot) -> Result<bool, Error> {
        if self.users.is_empty() {
            self.node = snapshot.node;
        } else if self.node != snapshot.node {
            return Err(Error::Report("a snapshot contains one node"));
        }
        for user in snapshot.users {
            self.users.insert(name(&user.username)?, user.count);
        }
        if self.users.len() > MAX_USERS { Err(Error::Full) } else { Ok(!snapshot.more) }
    }
}

fn set_typing(roster: &Roster, typing: &SetTypingRequest) -> Result<(), Error> {
    let user = name(&typing.username)?;
    // An empty name means the lobby.
    let room = if typing.room.is_empty() { RoomName::lobby() } else { typing.room.parse()? };
    roster.with(|state, now| state.set_typing(user, room, typing.is_typing, now))
}

fn name(text: &str) -> Result<Username, Error> {
    Ok(text.parse()?)
}
