//! Names as they come over the wire, checked once. Called by the calls and the stream.

use std::str::FromStr;

use proto::{RoomName, Username};

use crate::Error;

/// A username, checked.
pub(super) fn name(text: &str) -> Result<Username, Error> {
    Ok(Username::from_str(text)?)
}

/// A room's name, checked; none means the lobby.
pub(super) fn room(text: &str) -> Result<RoomName, Error> {
    if text.is_empty() { Ok(RoomName::lobby()) } else { Ok(RoomName::from_str(text)?) }
}
