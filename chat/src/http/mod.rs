//! Rooms, members, messages and presence over HTTP: the same questions to the same rooms as a socket's. Mounted by the
//! binary behind the gateway, which has put the caller's identity into the request; a resource a file.

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
                at("/rooms/{room}/messages").route(get().to(messages::page)).route(post().to(messages::say)),
            )
            .service(at("/presence/online").route(get().to(presence::online)))
            .service(at("/presence/typing").route(get().to(presence::typing)));
    }
}
