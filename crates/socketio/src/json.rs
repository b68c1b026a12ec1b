//! Parsing of JSON that JavaScript writes and `serde_json` rejects: escapes of lone surrogates, numbers
//! beyond a double, nesting beyond 128 levels. Pure. Used only after the ordinary parser has failed.

use std::fmt;

use serde::{
    Deserializer,
    de::{DeserializeOwned, IgnoredAny, SeqAccess, Visitor},
};
use serde_json::Value;

/// The length of `\uXXXX`.
const ESCAPE: usize = 6;

/// The escape of U+FFFD, which replaces the escape of a lone surrogate.
const REPLACEMENT: &str = "\\ufffd";

/// Parses JSON. The escape of a lone surrogate (`"\ud83d"`, half of an emoji) is read as U+FFFD. JavaScript's
/// `JSON.stringify` writes such escapes, and UTF-8 text cannot contain them.
///
/// # Errors
/// As [`serde_json::from_str`].
pub fn from_str<T: DeserializeOwned>(text: &str) -> serde_json::Result<T> {
    serde_json::from_str(text).or_else(|error| match replace_lone_surrogates(text) {
        Some(replaced) => serde_json::from_str(&replaced),
        None => Err(error),
    })
}

/// Whether `text` is one JSON value by the grammar alone. Nesting and the size of numbers are not limited.
pub(crate) fn is_well_formed(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// The first item of a well-formed JSON array, without parsing the others. `None` if it cannot be
/// represented.
pub(crate) fn first_item(text: &str) -> Option<Value> {
    let replaced = replace_lone_surrogates(text);
    let mut parser = serde_json::Deserializer::from_str(replaced.as_deref().unwrap_or(text));
    parser.deserialize_seq(First).ok().flatten()
}

struct First;

impl<'de> Visitor<'de> for First {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let first = items.next_element()?;
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(first)
    }
}

/// The text with U+FFFD in place of every lone surrogate. `None` if it contains no lone surrogate.
fn replace_lone_surrogates(text: &str) -> Option<String> {
    let (mut replaced, mut copied, mut at) = (String::new(), 0, 0);
    // In JSON a backslash occurs only inside strings, and an ASCII character follows it.
    while let Some(found) = text[at..].find('\\') {
        at += found;
        at += match (unit(text, at), unit(text, at + ESCAPE)) {
            (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => 2 * ESCAPE,
            (Some(0xD800..=0xDFFF), _) => {
                replaced.push_str(&text[copied..at]);
                replaced.push_str(REPLACEMENT);
                copied = at + ESCAPE;
                ESCAPE
            }
            (Some(_), _) => ESCAPE,
            (None, _) => 1 + text[at + 1..].chars().next().map_or(0, char::len_utf8),
        };
    }
    (copied > 0).then(|| replaced + &text[copied..])
}

/// The UTF-16 code unit whose escape is at `at`.
fn unit(text: &str, at: usize) -> Option<u16> {
    let hex = text.get(at..at + ESCAPE)?.strip_prefix("\\u")?;
    let is_hex = hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_hex { u16::from_str_radix(hex, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_lone_surrogate_is_read_as_the_replacement_character() {
        let read = |text| from_str::<Value>(text).unwrap();
        for (text, value) in [
            (r#""nice \ud83d""#, json!("nice \u{FFFD}")),
            (r#""\ude00 nice""#, json!("\u{FFFD} nice")),
            (r#""\ud83d\ud83d\ude00""#, json!("\u{FFFD}\u{1F600}")),
            (r#""\ud83dA""#, json!("\u{FFFD}A")),
            (r#""\ud83d\u0041""#, json!("\u{FFFD}A")),
            (r#""\ud83d\n""#, json!("\u{FFFD}\n")),
            (r#""\\ud83d \udfff""#, json!("\\ud83d \u{FFFD}")),
            (r#""\uD83Dé""#, json!("\u{FFFD}é")),
            (r#"{"\ud83d":["\udc00"]}"#, json!({"\u{FFFD}": ["\u{FFFD}"]})),
        ] {
            assert_eq!(read(text), value, "{text}");
        }
    }

    #[test]
    fn text_that_is_not_json_is_rejected() {
        for text in
            [r#""\ud8"#, r#""\ud83d"#, r#""\ud83dx\é""#, r#""\u12é4 \ud83d""#, "\\", "\"\\", "", "\\ud83d"]
        {
            assert!(from_str::<Value>(text).is_err(), "{text}");
            assert!(!is_well_formed(text), "{text}");
        }
    }
}
