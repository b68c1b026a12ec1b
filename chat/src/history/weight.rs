//! How many bytes a message costs as JSON, close enough to bound an answer without encoding it. Pure; stores call it.

/// What surrounds the text: field names, ids, a timestamp.
const ENVELOPE: usize = 224;

/// The bytes of a message with this text in an answer.
pub fn weight(text: &str) -> usize {
    ENVELOPE + text.bytes().map(escaped).sum::<usize>()
}

fn escaped(byte: u8) -> usize {
    match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        0x00..0x20 => 6,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_weighs_what_its_json_takes() {
        for text in ["hi", "a\"b\\c\n", "\u{0}\u{1f}", "é✓"] {
            let quotes = 2;
            let json = serde_json::to_string(text).unwrap().len() - quotes;
            assert_eq!(weight(text), ENVELOPE + json, "{text:?}");
        }
    }
}
