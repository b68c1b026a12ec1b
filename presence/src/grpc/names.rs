//! Validation of names in requests.

use std::str::FromStr;

use proto::{RoomName, Username};

use crate::Error;

/// Parses a username.
pub(super) fn name(text: &str) -> Result<Username, Error> {
    Ok(Username::from_str(text)?)
}

/// Parses a room name. An empty name means the lobby.
pub(super) fn room(text: &str) -> Result<RoomName, Error> {
    if text.is_empty() { Ok(RoomName::lobby()) } else { Ok(RoomName::from_str(text)?) }
}
