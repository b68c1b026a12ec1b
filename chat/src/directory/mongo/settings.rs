//! Settings of rooms as parts of documents. Pure.

use mongodb::bson::{Document, deserialize_from_document, serialize_to_document};
use proto::event::{Settings, SettingsPatch};

use crate::{
    Error,
    directory::stored_settings::{self, OtherSettings},
    mongo::damaged,
};

/// The field of a room's document with the settings that have no field of their own.
pub const FIELD: &str = "settings";

/// The settings that have no field of their own, as a subdocument.
pub fn others(settings: &Settings) -> Document {
    document(&stored_settings::others(settings))
}

/// The fields of a room's document that a change sets. Settings that a later release has stored are kept.
pub fn update(patch: &SettingsPatch) -> Document {
    document(&stored_settings::paths(patch, FIELD).collect::<OtherSettings>())
}

/// The settings of a stored room, or of a stored change. `others` is empty in those of earlier releases.
pub fn settings(private: bool, ephemeral: bool, others: &Document) -> Result<Settings, Error> {
    let others = deserialize_from_document(others.clone()).map_err(damaged)?;
    stored_settings::settings(private, ephemeral, others).map_err(damaged)
}

fn document(settings: &OtherSettings) -> Document {
    serialize_to_document(settings).expect("settings have values that BSON has")
}
