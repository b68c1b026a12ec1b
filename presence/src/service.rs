//! The calls of `presence.proto`. They validate names and send messages to the roster.

use std::time::Duration;

use actix::prelude::*;
use futures_util::{StreamExt as _, stream};
use proto::{
    RoomName, Username,
    presence::{
        Empty, NodeReport, OnlineUsersResponse, SetTypingRequest, Snapshot, TypingUsersResponse, UserRequest,
        node_report, presence_service_server::PresenceService,
    },
};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming, codegen::BoxStream};

use crate::{
    Error,
    roster::{Call, Ended, GetOnline, GetTyping, MAX_USERS, Open, Report, Reported, Roster, Typing},
    state::{Connections, Lease},
};

/// The presence service in front of a roster.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    pub roster: Addr<Roster>,
    /// A stream without reports for this long is ended.
    pub lease: Duration,
}

/// An open stream of a node. Its drop removes the node from the roster, also after a panic.
struct Reporter {
    roster: Addr<Roster>,
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
    async fn call(&self, call: Call) -> Result<Vec<String>, Status> {
        metrics::counter!("godzilla_presence_calls_total").increment(1);
        supervision::fault!("call");
        Ok(ask(&self.roster, call).await??)
    }
}

/// The roster's response. It is missing only after the actor has ended, and then the process ends.
async fn ask<M>(roster: &Addr<Roster>, message: M) -> Result<M::Result, Error>
where
    M: Message + Send + 'static,
    M::Result: Send,
    Roster: Handler<M>,
{
    roster.send(message).await.map_err(|_| Error::Unavailable)
}

#[tonic::async_trait]
impl PresenceService for Service {
    type ReportStream = BoxStream<proto::presence::RosterUpdate>;

    async fn user_connected(
        &self,
        request: Request<UserRequest>,
    ) -> Result<Response<OnlineUsersResponse>, Status> {
        let user = name(&request.into_inner().username)?;
        let usernames = self.call(Call::Connected(user)).await?;
        Ok(Response::new(OnlineUsersResponse { usernames }))
    }

    async fn user_disconnected(&self, request: Request<UserRequest>) -> Result<Response<Empty>, Status> {
        let user = name(&request.into_inner().username)?;
        self.call(Call::Disconnected(user)).await?;
        Ok(Response::new(Empty {}))
    }

    async fn set_typing(&self, request: Request<SetTypingRequest>) -> Result<Response<Empty>, Status> {
        metrics::counter!("godzilla_presence_calls_total").increment(1);
        ask(&self.roster, typing(&request.into_inner())?).await??;
        Ok(Response::new(Empty {}))
    }

    async fn get_online_users(&self, _: Request<Empty>) -> Result<Response<OnlineUsersResponse>, Status> {
        supervision::fault!("call");
        Ok(Response::new(OnlineUsersResponse { usernames: ask(&self.roster, GetOnline).await? }))
    }

    async fn get_typing_users(&self, _: Request<Empty>) -> Result<Response<TypingUsersResponse>, Status> {
        Ok(Response::new(TypingUsersResponse { usernames: ask(&self.roster, GetTyping).await? }))
    }

    async fn report(
        &self,
        request: Request<Streaming<NodeReport>>,
    ) -> Result<Response<Self::ReportStream>, Status> {
        let mut reports = request.into_inner();
        let snapshot = first_snapshot(&mut reports).await?;
        let opened = ask(&self.roster, Open { node: snapshot.node, users: snapshot.users }).await??;
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
        let Some(node_report::Report::Snapshot(snapshot)) = report else {
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
            if let Err(error) = self.apply(report).await {
                tracing::warn!(node = self.lease.node(), %error, "report refused, closing the stream");
                break;
            }
        }
    }

    async fn apply(&mut self, report: NodeReport) -> Result<(), Error> {
        use node_report::Report as Received;

        let report = match report.report {
            Some(Received::Heartbeat(_)) => Report::Heartbeat,
            Some(Received::Change(change)) => Report::Connections(name(&change.username)?, change.count),
            Some(Received::Typing(request)) => Report::Typing(typing(&request)?),
            Some(Received::Snapshot(snapshot)) if snapshot.node == self.lease.node() => {
                if !self.parts.add(snapshot)? {
                    return Ok(());
                }
                Report::Snapshot(std::mem::take(&mut self.parts).users)
            }
            Some(Received::Snapshot(_)) => return Err(Error::Report("a stream reports for one node")),
            None => return Err(Error::Report("an empty report")),
        };
        ask(&self.roster, Reported { lease: self.lease.clone(), report }).await?
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.roster.do_send(Ended(self.lease.clone()));
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

fn typing(request: &SetTypingRequest) -> Result<Typing, Error> {
    let user = name(&request.username)?;
    // An empty name means the lobby.
    let room = if request.room.is_empty() { RoomName::lobby() } else { request.room.parse()? };
    Ok(Typing { user, room, is_typing: request.is_typing })
}

fn name(text: &str) -> Result<Username, Error> {
    Ok(text.parse()?)
}
