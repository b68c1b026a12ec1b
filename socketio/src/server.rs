//! The server: an application, its numbers and the [`Bus`], mounted on every worker of an actix-web `HttpServer`.

use std::{rc::Rc, sync::Arc};

use actix::Actor;
use actix_web::web::{self, ServiceConfig};

use crate::{
    Config,
    app::App,
    bus::Bus,
    shard::{Local, Shard},
    transport,
};

/// A Socket.IO server for the application `A`. Cheap to clone.
pub struct Server<A: App> {
    app: Arc<A>,
    config: Arc<Config>,
    bus: Bus,
}

/// What the server is on one worker.
pub(crate) struct Worker<A> {
    pub(crate) app: Arc<A>,
    pub(crate) config: Arc<Config>,
    pub(crate) local: Rc<Local>,
}

impl<A: App> Clone for Server<A> {
    fn clone(&self) -> Self {
        Self { app: self.app.clone(), config: self.config.clone(), bus: self.bus.clone() }
    }
}

impl<A: App> Server<A> {
    /// A server whose sockets hear what is sent on `bus`.
    pub fn new(bus: Bus, app: A, config: Config) -> Self {
        Self { app: Arc::new(app), config: Arc::new(config), bus }
    }

    /// Adds the server's route to a worker's application. To be called in the factory given to `HttpServer::new`, which runs
    /// once on each worker.
    pub fn mount(&self, service: &mut ServiceConfig) {
        let local = Rc::new(Local::new(&self.config));
        self.bus.add(Shard::new(local.clone()).start());
        let worker = Rc::new(Worker { app: self.app.clone(), config: self.config.clone(), local });
        let resource = web::resource(self.config.path.as_str());
        service
            .service(resource.to(move |request, payload| transport::serve(worker.clone(), request, payload)));
    }
}
