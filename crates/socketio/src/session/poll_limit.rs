//! The end of a GET's wait that its request limits ([`crate::Config::poll_limit_header`]).

use actix::{Context, Handler, Message};

use super::{Session, handler::SessionHandler};

/// The pending GET has waited for as long as its request allows.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct ReleaseGet;

impl<T: SessionHandler> Handler<ReleaseGet> for Session<T> {
    type Result = ();

    /// The GET may have been answered meanwhile. Then a GET that arrived after it is released in its place, and its client
    /// sends the next one.
    fn handle(&mut self, _: ReleaseGet, ctx: &mut Context<Self>) {
        self.release_get("6", ctx);
    }
}
