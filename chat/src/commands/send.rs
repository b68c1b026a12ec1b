//! `message`: posts a message to a room. It is answered when the message is stored.

use std::{rc::Rc, time::Instant};

use proto::event::{Act, Post, name};

use super::{Caller, Command, Outcome, RateClass};
use crate::{
    Config, Error, Text,
    room::post::{self, Posted},
};

impl Command for Post {
    const EVENT: Option<&'static str> = Some(name::MESSAGE);
    const ROUTE: Option<&'static str> = Some("POST /rooms/{room}/messages");
    const RATE: RateClass = RateClass::Message;
    const PERMISSION: Option<Act> = Some(Act::Post);
    type Answer = Posted;

    fn check(&self, config: &Config) -> Result<(), Error> {
        Text::check(&self.text, config.text_limit)
    }

    /// Sends the post to its room, in the order of the caller's posts. The caller does not wait for the store.
    async fn run(self, caller: &Rc<Caller>, deadline: Instant) -> Result<Outcome<Posted>, Error> {
        caller.chat().check_open()?;
        let text = Text::parse(self.text, caller.chat().config().text_limit)?;
        let (author, origin) = (caller.user().clone(), caller.origin());
        let post = post::Post { author, text, client_id: self.client_id, origin, deadline };
        caller.submit(&self.room, post, deadline).await.map(Outcome::Accepted)
    }
}
