//! Rooms, members, messages and presence over HTTP. Handlers map routes, paths, bodies and queries to [`crate::commands`], and answers to
//! statuses. The binary mounts the routes behind the gateway, which adds the caller's identity to the request.

mod handlers;
mod input;
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
                    .route(on::<ListRooms>().to(handlers::list))
                    .route(on::<CreateRoom>().to(handlers::create)),
            )
            .service(
                self.path_of::<DescribeRoom>()
                    .route(on::<DescribeRoom>().to(handlers::describe))
                    .route(on::<ChangeSettings>().to(handlers::change))
                    .route(on::<ArchiveRoom>().to(handlers::archive)),
            )
            .service(
                self.path_of::<AddMember>()
                    .route(on::<AddMember>().to(handlers::add_member))
                    .route(on::<RemoveMember>().to(handlers::remove_member)),
            )
            .service(
                self.path_of::<History>()
                    .route(on::<History>().to(handlers::page))
                    .route(on::<Post>().to(handlers::post)),
            )
            .service(self.path_of::<Join>().route(on::<Join>().to(handlers::changes)))
            .service(self.path_of::<ReadOnline>().route(on::<ReadOnline>().to(handlers::online)))
            .service(self.path_of::<ReadTyping>().route(on::<ReadTyping>().to(handlers::typing)));
    }

    /// The path of a command's route.
    fn path_of<C: Command>(&self) -> Resource {
        resource(route::<C>().1)
            .app_data(Data::new(self.clone()))
            .app_data(input::limit(self.config().text_limit))
            .app_data(input::path())
            .app_data(input::query())
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
