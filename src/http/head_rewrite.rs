//! Rewrites request heads that the HTTP library handles badly, before it parses them. Pure. Called by `pipeline_limit`.
//!
//! Upgrades to protocols other than WebSocket are removed. A server may ignore them (RFC 9110 §7.8), but the library
//! closes the connection after every request whose `Connection` header contains `upgrade`. The nginx configuration in
//! Socket.IO's documentation sends it with all requests, and the JDK's HTTP client with its first one. WebSocket
//! handshakes are not changed.
//!
//! A POST of HTTP/1.0 without a length gets another method: the library closes its connection without a response, and
//! the gateway refuses the method with an error message that the client can act on.
//!
//! The length of the head does not change: bytes are overwritten in place.

use std::ops::Range;

/// The method of a request of HTTP/1.0 whose body ends with the connection. The library refuses it without a response.
const UNBOUNDED: &[u8] = b"POST ";

/// The replacement method, which the gateway refuses with an error message.
const UNBOUNDED_REFUSABLE: &[u8] = b"BODY ";

const UPGRADE: &[u8] = b"upgrade";

/// Replaces `upgrade` in `Connection`: the name of a header that does not exist.
const IGNORED: &[u8] = b"ignored";

/// Rewrites `head`, a complete request head. Other bytes, such as those of a body, are not changed.
pub fn rewrite(head: &mut [u8]) {
    if is_unbounded(head) {
        head[..UNBOUNDED.len()].copy_from_slice(UNBOUNDED_REFUSABLE);
        return;
    }
    let mentions_upgrade = head.windows(UPGRADE.len()).any(|part| part.eq_ignore_ascii_case(UPGRADE));
    if !mentions_upgrade || !is_head(head) {
        return;
    }
    let (mut upgrades, mut options) = (Vec::new(), Vec::new());
    for (name, value) in fields(head) {
        if head[name.clone()].eq_ignore_ascii_case(UPGRADE) {
            upgrades.push(value);
        } else if head[name].eq_ignore_ascii_case(b"connection") {
            options.extend(elements(head, value));
        }
    }
    let names_websocket = |value: &Range<usize>| {
        let value = head[value.clone()].to_ascii_lowercase();
        value.windows(9).any(|part| part == b"websocket")
    };
    if upgrades.iter().any(names_websocket) {
        return;
    }
    for option in options {
        if head[option.clone()].eq_ignore_ascii_case(UPGRADE) {
            head[option].copy_from_slice(IGNORED);
        }
    }
}

/// Whether this is the head of a POST of HTTP/1.0 without the length of its body.
fn is_unbounded(head: &[u8]) -> bool {
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default().trim_ascii_end();
    let has_length = |name: &[u8]| {
        [&b"content-length"[..], b"transfer-encoding"]
            .iter()
            .any(|expected| name.eq_ignore_ascii_case(expected))
    };
    head.starts_with(UNBOUNDED)
        && line.ends_with(b" HTTP/1.0")
        && !fields(head).into_iter().any(|(name, _)| has_length(&head[name]))
}

/// Whether the first line is a request line. Bodies from clients of this server start differently: with JSON or an
/// Engine.IO payload.
fn is_head(bytes: &[u8]) -> bool {
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default().trim_ascii_end();
    bytes.first().is_some_and(u8::is_ascii_uppercase)
        && (line.ends_with(b" HTTP/1.1") || line.ends_with(b" HTTP/1.0"))
}

/// The ranges of the names and values of the header lines.
fn fields(head: &[u8]) -> Vec<(Range<usize>, Range<usize>)> {
    let (mut at, mut fields) = (0, Vec::new());
    for line in head.split(|byte| *byte == b'\n') {
        if let Some(colon) = line.iter().position(|byte| *byte == b':') {
            fields.push((at..at + colon, at + colon + 1..at + line.len()));
        }
        at += line.len() + 1;
    }
    fields
}

/// The ranges of the elements of a comma-separated list, without the spaces around them.
fn elements(head: &[u8], value: Range<usize>) -> Vec<Range<usize>> {
    let (mut at, mut elements) = (value.start, Vec::new());
    for element in head[value].split(|byte| *byte == b',') {
        let before = element.len() - element.trim_ascii_start().len();
        elements.push(at + before..at + before + element.trim_ascii().len());
        at += element.len() + 1;
    }
    elements
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(head: &str) -> String {
        let mut bytes = head.as_bytes().to_vec();
        rewrite(&mut bytes);
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn upgrades_to_other_protocols_are_removed() {
        let heads = [
            "GET / HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nupgrade: TLS/1.0\r\nCONNECTION:keep-alive ,UPGRADE\r\n\r\n",
            "GET / HTTP/1.1\nconnection: upgrade\nConnection:\tUpgrade\n\n",
        ];
        let want = [
            "GET / HTTP/1.1\r\nConnection: ignored, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nupgrade: TLS/1.0\r\nCONNECTION:keep-alive ,ignored\r\n\r\n",
            "GET / HTTP/1.1\nconnection: ignored\nConnection:\tignored\n\n",
        ];
        for (head, want) in heads.into_iter().zip(want) {
            assert_eq!(rewritten(head), want);
        }
        assert_eq!(rewritten("POST /a HTTP/1.0\r\nHost: a\r\n\r\n"), "BODY /a HTTP/1.0\r\nHost: a\r\n\r\n");
        for bounded in
            ["POST /a HTTP/1.0\r\ncontent-LENGTH: 0\r\n\r\n", "POST /a HTTP/1.1\r\nHost: a\r\n\r\n"]
        {
            assert_eq!(rewritten(bounded), bounded);
        }
    }

    #[test]
    fn other_heads_are_not_changed() {
        let heads = [
            "GET /socket.io/ HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
            "GET /socket.io/ HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c, WebSocket\r\n\r\n",
            "GET /upgrade HTTP/1.1\r\nX: Upgrade\r\nUpgrade-Insecure-Requests: 1\r\nConnection: upgraded\r\n\r\n",
            "{\"a\": 1,\r\nConnection: upgrade\r\n\r\n",
            "Text HTTP/2\r\nConnection: upgrade\r\n\r\n",
            "",
            "PRI",
        ];
        for head in heads {
            assert_eq!(rewritten(head), head);
        }
    }
}
