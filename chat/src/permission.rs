//! Permissions of users in rooms, as refusals. The table is [`Role::can`]. Used by the actors of rooms and by the stores.

use proto::event::{Act, Role, Settings, Verdict};

use crate::Error;

/// Checks that a user with `role`, or one who is not a member, may do `act` in a room with these settings.
///
/// # Errors
/// [`Error::NotFound`] for a private room that the user is not a member of, otherwise [`Error::Forbidden`].
pub fn check(role: Option<Role>, act: Act, settings: &Settings) -> Result<(), Error> {
    Err(match Role::can(role, act, settings) {
        Verdict::Allowed => return Ok(()),
        Verdict::Hidden => Error::NotFound,
        Verdict::MembersOnly | Verdict::Requires(Role::Member) => {
            Error::Forbidden("only members of the room may do this")
        }
        Verdict::Requires(Role::Owner) => Error::Forbidden("only the owner of the room may do this"),
    })
}
