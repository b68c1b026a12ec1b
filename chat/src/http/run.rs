//! Runs the command of a request: the rate of the caller's writes, the input, the answer.

use proto::RoomName;

use super::input::Caller;
use crate::{
    chat::{deadline_now, with_deadline},
    commands::{Command, RateClass},
};

/// Runs a command that has no room, or whose input cannot be refused.
pub async fn run<C: Command>(caller: &Caller, command: C) -> Result<C::Answer, actix_web::Error> {
    run_in(caller, None, Ok(command)).await
}

/// Runs a command in `room`. Permission is checked before the input: a caller without it gets the refusal of the room for any input.
pub async fn run_in<C: Command>(
    Caller(caller): &Caller,
    room: Option<&RoomName>,
    input: Result<C, actix_web::Error>,
) -> Result<C::Answer, actix_web::Error> {
    let (chat, user) = (caller.chat(), caller.user());
    if matches!(C::RATE, RateClass::Message | RateClass::Write) {
        chat.check_write(user)?;
    }
    let deadline = deadline_now();
    let checked = input.and_then(|command| Ok(command.check(chat.config()).map(|()| command)?));
    let command = match checked {
        Ok(command) => command,
        Err(refused) => {
            if let Some(room) = room {
                C::check_permission(caller, room, deadline).await?;
            }
            return Err(refused);
        }
    };
    let run = async { command.run(caller, deadline).await?.answer(deadline).await };
    if C::RATE != RateClass::LargeRead {
        return Ok(run.await?);
    }
    let read = async {
        let _turn = chat.read_turn(user).await?;
        run.await
    };
    Ok(with_deadline(deadline, read).await?)
}
