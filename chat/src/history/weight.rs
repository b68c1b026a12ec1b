//! Estimate of the size of a message as JSON, which bounds an answer without encoding it. Pure. Called by the stores.

/// Bytes of a message besides its text: field names, ids, a timestamp.
const ENVELOPE: usize = 224;

/// Estimated size in bytes of a message with this text as JSON.
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
    fn weight_is_the_size_of_the_json() {
        for text in ["hi", "a\"b\\c\n", "\u{0}\u{1f}", "é✓"] {
            let quotes = 2;
            let json = serde_json::to_string(text).unwrap().len() - quotes;
            assert_eq!(weight(text), ENVELOPE + json, "{text:?}");
        }
    }
}
