//! The calls of `presence.proto`. They validate names and forward to the roster.

use std::{sync::Arc, time::Duration};

use actix::Addr;
use proto::presence::{
    DATABASE, Empty, NodeReport, OnlineUsersResponse, SERVICE_ID, SetTypingRequest, TypingUsersResponse,
    UserRequest, presence_service_server::PresenceService,
};
use tonic::{Request, Response, Status, Streaming, codegen::BoxStream};

use super::{
    names::{name, room},
    report,
    rosters::Rosters,
};
use crate::{
    Error,
    actor::{Call, GetOnline, GetTyping, Roster},
};

/// The presence service in front of the rosters.
#[derive(Debug, Clone)]
pub struct Service {
    rosters: Rosters,
    lease: Duration,
    /// The random id of this process.
    id: Arc<str>,
}

/// The maximum length of the id of a database, in bytes.
const MAX_ID: usize = 64;

impl Service {
    /// A service for `rosters`. A stream without reports for `lease` is ended.
    pub fn new(rosters: Rosters, lease: Duration) -> Self {
        // Without random bytes the start time distinguishes two services.
        let id = getrandom::u64().unwrap_or_else(|_| proto::Timestamp::now().0);
        Self { rosters, lease, id: format!("{id:016x}").into() }
    }

    async fn call(&self, roster: &Addr<Roster>, call: Call) -> Result<(), Status> {
        metrics::counter!("godzilla_presence_calls_total").increment(1);
        roster.send(call).await.map_err(Error::from)?.map_err(Status::from)
    }

    async fn online(&self, roster: &Addr<Roster>) -> Result<Response<OnlineUsersResponse>, Status> {
        supervision::fault!("call");
        let usernames = roster.send(GetOnline).await.map_err(Error::from)?;
        Ok(Response::new(OnlineUsersResponse { usernames }))
    }
}

#[tonic::async_trait]
impl PresenceService for Service {
    type ReportStream = BoxStream<proto::presence::RosterUpdate>;

    async fn user_connected(
        &self,
        request: Request<UserRequest>,
    ) -> Result<Response<OnlineUsersResponse>, Status> {
        let roster = self.rosters.of(request.metadata())?;
        self.call(&roster, Call::Connected(name(&request.into_inner().username)?)).await?;
        self.online(&roster).await
    }

    async fn user_disconnected(&self, request: Request<UserRequest>) -> Result<Response<Empty>, Status> {
        let roster = self.rosters.of(request.metadata())?;
        self.call(&roster, Call::Disconnected(name(&request.into_inner().username)?)).await?;
        Ok(Response::new(Empty {}))
    }

    async fn set_typing(&self, request: Request<SetTypingRequest>) -> Result<Response<Empty>, Status> {
        let roster = self.rosters.of(request.metadata())?;
        let SetTypingRequest { username, is_typing, room: of } = request.into_inner();
        self.call(&roster, Call::Typing { user: name(&username)?, room: room(&of)?, is_typing }).await?;
        Ok(Response::new(Empty {}))
    }

    async fn get_online_users(
        &self,
        request: Request<Empty>,
    ) -> Result<Response<OnlineUsersResponse>, Status> {
        self.online(&self.rosters.of(request.metadata())?).await
    }

    async fn get_typing_users(
        &self,
        request: Request<Empty>,
    ) -> Result<Response<TypingUsersResponse>, Status> {
        let usernames = self.rosters.of(request.metadata())?.send(GetTyping).await.map_err(Error::from)?;
        Ok(Response::new(TypingUsersResponse { usernames }))
    }

    async fn report(
        &self,
        request: Request<Streaming<NodeReport>>,
    ) -> Result<Response<Self::ReportStream>, Status> {
        let roster = self.rosters.of(request.metadata())?;
        let database = request.metadata().get(DATABASE).and_then(|id| id.to_str().ok());
        let database = database.filter(|id| id.len() <= MAX_ID).map(str::to_owned);
        let updates = report::open(roster, request.into_inner(), database, self.lease).await?;
        let mut response = Response::new(Box::pin(updates) as Self::ReportStream);
        if let Ok(id) = self.id.parse() {
            response.metadata_mut().insert(SERVICE_ID, id);
        }
        Ok(response)
    }
}
