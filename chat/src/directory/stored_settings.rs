//! Settings as stores keep them. The settings of the first release have columns or fields of their own. All others are one JSON object, so
//! that a new setting changes no store. Pure.

use proto::event::Settings;
use serde::Serialize;
use serde_json::{Map, Value};

/// The settings with a column or field of their own.
const OWN: [&str; 2] = ["private", "ephemeral"];

/// The other settings, by their names.
pub type OtherSettings = Map<String, Value>;

/// The settings without those that have a column or field of their own.
pub fn others(settings: &Settings) -> OtherSettings {
    fields(settings).into_iter().filter(|(name, _)| !OWN.contains(&name.as_str())).collect()
}

/// The settings of a stored room. Other settings that are absent have their default.
///
/// # Errors
/// When another setting has a value of a wrong type.
pub fn settings(
    private: bool,
    ephemeral: bool,
    mut others: OtherSettings,
) -> Result<Settings, serde_json::Error> {
    others.extend(OWN.map(ToOwned::to_owned).into_iter().zip([private.into(), ephemeral.into()]));
    serde_json::from_value(Value::Object(others))
}

fn fields(object: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(object).expect("settings have values that JSON has") {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn settings_are_read_as_they_were_stored() {
        for (private, ephemeral) in [(false, true), (true, false)] {
            let stored = Settings { private, ephemeral };
            assert_eq!(settings(private, ephemeral, others(&stored)).unwrap(), stored);
        }
    }

    #[test]
    fn fields_of_their_own_are_not_stored_twice() {
        assert_eq!(others(&Settings { private: true, ephemeral: true }), Map::new());
        let stale = Map::from_iter([("private".to_owned(), json!(false)), ("later".to_owned(), json!(1))]);
        let read = settings(true, false, stale).unwrap();
        assert_eq!(read, Settings { private: true, ephemeral: false }, "the own field decides");
    }
}
