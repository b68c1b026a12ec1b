//! A wrapper that deserializes from a JSON object only. A struct that derives `Deserialize` also accepts an array of its fields,
//! which the contracts do not allow.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};

/// A `T` that was deserialized from an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object<T>(pub T);

struct Fields<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields(PhantomData)).map(Self)
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Leave;

    #[test]
    fn only_an_object_is_accepted() {
        let read = |text| serde_json::from_str::<Object<Leave>>(text);
        assert_eq!(read(r#"{"room":"tea"}"#).unwrap().0.room.as_str(), "tea");
        for text in [r#"["tea"]"#, "null", "\"tea\"", "{}", r#"{"room":"a","room":"b"}"#] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
