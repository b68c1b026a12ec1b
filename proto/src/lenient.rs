//! Deserializers for `#[serde(deserialize_with)]` that accept what typed clients send. Serializers of C#, Kotlin, Swift, Dart,
//! Java and Python write `null` for an optional field without a value, and `3.0` for 3.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor},
};

use crate::RoomName;

/// 2^53. Above it, a double does not represent every integer, so the intended value is ambiguous.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// Deserializes a `T`; `null` gives `T::default()`.
///
/// # Errors
/// When the value is neither `null` nor a `T`.
pub fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(value: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(value)?.unwrap_or_default())
}

/// Deserializes a room name; `null` gives the lobby.
///
/// # Errors
/// When the value is neither `null` nor a room name.
pub fn or_lobby<'de, D: Deserializer<'de>>(value: D) -> Result<RoomName, D::Error> {
    Ok(Option::deserialize(value)?.unwrap_or_else(RoomName::lobby))
}

/// Deserializes a non-negative integer, also in the forms `3.0` and `3e0`. `null` gives `None`.
///
/// # Errors
/// For fractions, negative numbers, numbers that do not fit, and anything that is not a number.
pub fn whole<'de, D: Deserializer<'de>, T: TryFrom<u64>>(value: D) -> Result<Option<T>, D::Error> {
    value.deserialize_any(Whole(PhantomData))
}

const EXPECTED: &str = "a whole number that is not negative";

/// Converts a double that is an exact non-negative integer.
fn exact(number: f64) -> Option<u64> {
    let is_exact = number.fract() == 0.0 && (0.0..=MAX_EXACT).contains(&number);
    // The check above makes the conversion lossless.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    is_exact.then_some(number as u64)
}

struct Whole<T>(PhantomData<T>);

impl<T: TryFrom<u64>> Visitor<'_> for Whole<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(EXPECTED)
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        let fitting = T::try_from(number).ok();
        fitting.map(Some).ok_or_else(|| E::custom(format_args!("{number} is too large")))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Self::Value, E> {
        match exact(number) {
            Some(number) => self.visit_u64(number),
            None => Err(E::invalid_type(serde::de::Unexpected::Float(number), &self)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Fields {
        #[serde(default, deserialize_with = "whole")]
        limit: Option<u32>,
        #[serde(default, deserialize_with = "or_default")]
        private: bool,
        #[serde(default = "RoomName::lobby", deserialize_with = "or_lobby")]
        room: RoomName,
    }

    #[test]
    fn values_of_typed_clients_are_accepted_and_ambiguous_values_are_refused() {
        let read = |text: &str| serde_json::from_str::<Fields>(text);
        let limit = |text: &str| read(&format!(r#"{{"limit":{text}}}"#)).map(|fields| fields.limit);
        for (text, expected) in [
            ("null", None),
            ("3", Some(3)),
            ("3.0", Some(3)),
            ("3e0", Some(3)),
            ("0.3e1", Some(3)),
            ("-0", Some(0)),
            ("-0.0", Some(0)),
        ] {
            assert_eq!(limit(text).unwrap(), expected, "{text}");
        }
        for text in ["3.5", "-1", "-1.0", "1e30", "4294967296", "4294967296.0", "\"3\"", "true", "[3]", "{}"]
        {
            let refused = limit(text).unwrap_err().to_string();
            assert!(refused.contains("whole number") || refused.contains("too large"), "{text}: {refused}");
        }
        let absent = Fields { limit: None, private: false, room: RoomName::lobby() };
        for text in ["{}", r#"{"limit":null,"private":null,"room":null}"#, r#"{"other":{"deep":[1.5]}}"#] {
            assert_eq!(read(text).unwrap(), absent, "{text}");
        }
        for text in [r#"{"private":0}"#, r#"{"private":"true"}"#, r#"{"room":""}"#, r#"{"room":1}"#] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
