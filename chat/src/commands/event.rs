//! Commands of sockets: an event is parsed into a command, which waits in the queue of its socket and acks its answer.

use std::{fmt::Debug, rc::Rc, time::Instant};

use futures_util::future::LocalBoxFuture;
use proto::Object;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use socketio::{Event, Socket};

use super::{Caller, Command, Outcome, RateClass};
use crate::{Config, Error, ack::Ack, chat::with_deadline, task};

/// Parses an event into a command.
pub type ParseEvent = fn(&mut Event, &Config) -> Result<Box<dyn QueuedCommand>, Error>;

/// A parsed command of any type.
pub trait QueuedCommand: Debug {
    /// Runs the command and acks its answer by `deadline`. Resolves when the next command of the socket may run.
    fn run(
        self: Box<Self>,
        caller: Rc<Caller>,
        socket: Socket,
        ack: Ack,
        deadline: Instant,
    ) -> LocalBoxFuture<'static, ()>;
}

/// Parses an event.
pub fn parse<C: Command + DeserializeOwned>(
    event: &mut Event,
    config: &Config,
) -> Result<Box<dyn QueuedCommand>, Error> {
    if C::IS_PAYLOAD_OPTIONAL && event.args.first().is_none_or(Value::is_null) {
        event.args = vec![json!({})];
    }
    let Object(command) = event.arg::<Object<C>>(0).map_err(|error| Error::BadRequest(error.to_string()))?;
    command.check(config)?;
    Ok(Box::new(command))
}

impl<C: Command> QueuedCommand for C {
    fn run(
        self: Box<Self>,
        caller: Rc<Caller>,
        socket: Socket,
        ack: Ack,
        deadline: Instant,
    ) -> LocalBoxFuture<'static, ()> {
        Box::pin(async move {
            // A large answer is read when the client has read enough of its earlier packets and a read slot of the node is free.
            let turn = async {
                if C::RATE != RateClass::LargeRead {
                    return Ok(None);
                }
                socket.caught_up().await;
                caller.chat().read_turn(caller.user()).await.map(Some)
            };
            let _turn = match with_deadline(deadline, turn).await {
                Ok(turn) => turn,
                Err(error) => return ack.refuse(&error),
            };
            match with_deadline(deadline, Command::run(*self, &caller, deadline)).await {
                Ok(Outcome::Done(answer)) => ack.answer(Ok(answer)),
                Ok(Outcome::Accepted(pending)) => {
                    task::spawn(&socket, async move {
                        let answer = pending.until(deadline).await;
                        supervision::fault!("ack");
                        ack.answer(answer);
                    });
                }
                Err(error) => ack.refuse(&error),
            }
        })
    }
}
