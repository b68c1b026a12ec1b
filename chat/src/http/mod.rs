//! Rooms, members, messages and presence over HTTP. Handlers ask the same questions to the same room actors as sockets. The binary mounts
//! the routes behind the gateway, which adds the caller's identity to the request. Each resource has its own file.

mod changes;
mod input;
mod members;
mod messages;
mod presence;
mod refusal;
mod rooms;
#[cfg(test)]
mod tests;

use actix_web::web::{Data, ServiceConfig, delete, get, patch, post, put, resource};

use crate::Chat;

impl Chat {
    /// Adds the chat's routes to a worker's application.
    pub fn routes(&self, service: &mut ServiceConfig) {
        let chat = Data::new(self.clone());
        let at = |path: &str| {
            let limit = input::limit(self.config().text_limit);
            resource(path)
                .app_data(chat.clone())
                .app_data(limit)
                .app_data(limit.config())
                .app_data(input::path())
                .app_data(input::query())
        };
        service
            .service(at("/rooms").route(get().to(rooms::list)).route(post().to(rooms::create)))
            .service(
                at("/rooms/{room}")
                    .route(get().to(rooms::read))
                    .route(patch().to(rooms::change))
                    .route(delete().to(rooms::archive)),
            )
            .service(
                at("/rooms/{room}/members/{user}")
                    .route(put().to(members::add))
                    .route(delete().to(members::remove)),
            )
            .service(
                at("/rooms/{room}/messages").route(get().to(messages::page)).route(post().to(messages::post)),
            )
            .service(at("/rooms/{room}/changes").route(get().to(changes::read)))
            .service(at("/presence/online").route(get().to(presence::online)))
            .service(at("/presence/typing").route(get().to(presence::typing)));
    }
}
