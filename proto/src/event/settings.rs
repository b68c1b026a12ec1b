//! The settings of a room. A new setting is added here; it is stored, sent and changed without further code.

use serde::{Deserialize, Serialize};

use crate::lenient::or_default;

/// The settings of a room. In a new room, absent fields and `null` are the default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    /// Whether the room is visible to its members only.
    #[serde(default, deserialize_with = "or_default")]
    pub private: bool,
    /// Whether old messages of the room are deleted. It is chosen when the room is created.
    #[serde(default, deserialize_with = "or_default")]
    pub ephemeral: bool,
}

/// New values of settings. An absent field is not changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SettingsPatch {
    /// [`Settings::private`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private: Option<bool>,
}

impl SettingsPatch {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// `settings` with the new values.
    #[must_use]
    pub fn applied_to(&self, settings: &Settings) -> Settings {
        let Self { private } = self.clone();
        Settings { private: private.unwrap_or(settings.private), ..settings.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_settings_of_a_new_room_are_the_default() {
        let read = |json| serde_json::from_str::<Settings>(json).unwrap();
        assert_eq!(read("{}"), Settings::default());
        assert_eq!(read(r#"{"private":null,"later":1}"#), Settings::default());
        assert_eq!(read(r#"{"ephemeral":true}"#), Settings { ephemeral: true, ..Settings::default() });
        assert!(serde_json::from_str::<Settings>(r#"{"private":"yes"}"#).is_err());
    }

    #[test]
    fn a_patch_changes_its_fields_only() {
        let patch = |json| serde_json::from_str::<SettingsPatch>(json).unwrap();
        let old = Settings { private: true, ephemeral: true };
        assert_eq!(
            patch(r#"{"private":false}"#).applied_to(&old),
            Settings { private: false, ..old.clone() }
        );
        for json in ["{}", r#"{"private":null}"#, r#"{"ephemeral":false}"#] {
            assert!(patch(json).is_empty(), "{json}");
            assert_eq!(patch(json).applied_to(&old), old, "{json}");
        }
    }
}
