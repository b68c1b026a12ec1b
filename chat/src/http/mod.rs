//! Rooms, members, messages and presence over HTTP. Handlers map routes, paths, bodies and queries to [`crate::commands`], and answers to
//! statuses. The binary mounts the routes behind the gateway, which adds the caller's identity to the request. Each resource has its own
//! file.

mod input;
mod members;
mod messages;
mod presence;
mod query;
mod refusal;
mod rooms;
mod run;
#[cfg(test)]
mod tests;

use actix_web::{
    Resource, Route,
    http::Method,
    web::{Data, ServiceConfig, method, resource},
};
use proto::event::{History, Join, Post};

use crate::{
    Chat,
    commands::{
        AddMember, ArchiveRoom, ChangeSettings, Command, CreateRoom, DescribeRoom, ListRooms, ReadOnline,
        ReadTyping, RemoveMember,
    },
};

impl Chat {
    /// Adds the chat's routes to a worker's application.
    pub fn routes(&self, service: &mut ServiceConfig) {
        service
            .service(
                self.path_of::<ListRooms>()
                    .route(on::<ListRooms>().to(rooms::list))
                    .route(on::<CreateRoom>().to(rooms::create)),
            )
            .service(
                self.path_of::<DescribeRoom>()
                    .route(on::<DescribeRoom>().to(rooms::describe))
                    .route(on::<ChangeSettings>().to(rooms::change))
                    .route(on::<ArchiveRoom>().to(rooms::archive)),
            )
            .service(
                self.path_of::<AddMember>()
                    .route(on::<AddMember>().to(members::add))
                    .route(on::<RemoveMember>().to(members::remove)),
            )
            .service(
                self.path_of::<History>()
                    .route(on::<History>().to(messages::page))
                    .route(on::<Post>().to(messages::post)),
            )
            .service(self.path_of::<Join>().route(on::<Join>().to(messages::changes)))
            .service(self.path_of::<ReadOnline>().route(on::<ReadOnline>().to(presence::online)))
            .service(self.path_of::<ReadTyping>().route(on::<ReadTyping>().to(presence::typing)));
    }

    /// The path of a command's route.
    fn path_of<C: Command>(&self) -> Resource {
        let limit = input::limit(self.config().text_limit);
        resource(route::<C>().1)
            .app_data(Data::new(self.clone()))
            .app_data(limit)
            .app_data(limit.config())
            .app_data(input::path())
    }
}

/// The method of a command's route.
fn on<C: Command>() -> Route {
    method(route::<C>().0)
}

/// The method and path of a command's route.
fn route<C: Command>() -> (Method, &'static str) {
    let route = C::ROUTE.and_then(|route| route.split_once(' '));
    let (method, path) = route.expect("a command with a handler has a route");
    (method.parse().expect("a route starts with a method"), path)
}
