//! WebSocket frames that no conformant client sends: each is refused with the right close code, by its header where the header
//! suffices, and other clients are not affected.

use crate::support::{RawSocket, TestServer, TestUser, masked};

/// Protocol errors (close code 1002), by name.
const PROTOCOL_ERRORS: [(&str, &[u8]); 17] = [
    ("64-bit length with the top bit set", &[0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    ("2 bytes declared in 16 bits", &[0x81, 0xfe, 0, 2, 0, 0, 0, 0, b'4', b'0']),
    ("2 bytes declared in 64 bits", &[0x81, 0xff, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, b'4', b'0']),
    ("200 bytes declared in 64 bits", &[0x81, 0xff, 0, 0, 0, 0, 0, 0, 0, 200, 0, 0, 0, 0]),
    ("unmasked", &[0x81, 0x02, b'4', b'0']),
    ("RSV1", &[0xc1, 0x82, 0, 0, 0, 0, b'4', b'0']),
    ("RSV2", &[0xa1, 0x82, 0, 0, 0, 0, b'4', b'0']),
    ("RSV3", &[0x91, 0x82, 0, 0, 0, 0, b'4', b'0']),
    ("opcode 3", &[0x83, 0x80, 0, 0, 0, 0]),
    ("opcode 7", &[0x87, 0x80, 0, 0, 0, 0]),
    ("opcode 11", &[0x8b, 0x80, 0, 0, 0, 0]),
    ("opcode 15", &[0x8f, 0x80, 0, 0, 0, 0]),
    ("fragmented ping", &[0x09, 0x80, 0, 0, 0, 0]),
    ("ping of 126 bytes", &[0x89, 0xfe, 0, 126, 0, 0, 0, 0]),
    ("continuation of nothing", &[0x80, 0x81, 0, 0, 0, 0, b'4']),
    ("text inside a fragmented text", &[0x01, 0x81, 0, 0, 0, 0, b'4', 0x81, 0x81, 0, 0, 0, 0, b'0']),
    ("close with one byte", &[0x88, 0x81, 0, 0, 0, 0, 3]),
];

#[tokio::test]
async fn a_frame_that_violates_the_protocol_closes_with_1002() {
    let server = TestServer::start().await;
    let eve = server.user("eve").await;
    let mut alice = server.connected_user("alice").await;
    for (name, bytes) in PROTOCOL_ERRORS {
        let mut raw = RawSocket::open(eve.source, eve.server, eve.token(), None).await;
        raw.write(bytes).await;
        assert_eq!(raw.close_code().await, Some(1002), "{name}");
    }
    alice.send_message("not affected").await;
}

#[tokio::test]
async fn a_malformed_frame_in_the_same_segment_as_the_upgrade_closes_with_1002() {
    let server = TestServer::start().await;
    let eve = server.user("eve").await;
    let mut raw =
        RawSocket::open_with(eve.source, eve.server, eve.token(), &[0xa1, 0x82, 0, 0, 0, 0, b'4', b'0'])
            .await;
    assert_eq!(raw.close_code().await, Some(1002));
}

/// Only the header is sent: the test fails when the server waits for the payload, or allocates memory for it.
#[tokio::test]
async fn a_frame_that_declares_an_oversized_payload_is_refused_on_its_header() {
    let server = TestServer::start().await;
    let eve = server.user("eve").await;
    declare_too_much(&eve).await;
    // The memory that a new process allocates for its first connections is not counted.
    let before = server.system.resident_bytes();
    declare_too_much(&eve).await;
    let grown = server.system.resident_bytes().saturating_sub(before);
    assert!(grown < 1 << 20, "grew by {grown} bytes");
}

async fn declare_too_much(eve: &TestUser) {
    for declared in [65_537, 1 << 20, 1 << 31, 1 << 40, (1 << 63) - 1] {
        for first in [0x81_u8, 0x82, 0x01] {
            let mut raw = RawSocket::open(eve.source, eve.server, eve.token(), None).await;
            raw.write(&[&[first, 0xff], &u64::to_be_bytes(declared)[..], &[0; 4]].concat()).await;
            assert_eq!(raw.close_code().await, Some(1009), "{declared} bytes, first byte {first:#x}");
        }
    }
}

#[tokio::test]
async fn a_frame_of_exactly_64_kib_is_accepted() {
    let server = TestServer::start().await;
    let eve = server.user("eve").await;
    let mut raw = RawSocket::open(eve.source, eve.server, eve.token(), None).await;
    raw.join().await;
    let frame = 65_536 - r#"42["unhandled event",""]"#.len();
    raw.send_text(&format!(r#"42["unhandled event","{}"]"#, "x".repeat(frame))).await;
    raw.send_text(r#"427["history",{}]"#).await;
    raw.until(|frame| frame.payload.starts_with(b"437[")).await;
}

#[tokio::test]
async fn a_fragmented_message_is_reassembled_up_to_the_size_limit() {
    let server = TestServer::start().await;
    let eve = server.user("eve").await;
    let mut raw = RawSocket::open(eve.source, eve.server, eve.token(), None).await;
    raw.join().await;
    raw.write(&[masked(0x01, br#"427["hist"#), masked(0x89, b"now"), masked(0x80, br#"ory",{}]"#)].concat())
        .await;
    let mut ponged = false;
    raw.until(|frame| {
        ponged |= frame.first == 0x8a && frame.payload == b"now";
        frame.payload.starts_with(b"437[")
    })
    .await;
    assert!(ponged, "a ping between fragments is answered before the message that follows it");

    let part = vec![b'x'; 40_000];
    raw.write(&[masked(0x01, &part), masked(0x00, &part)].concat()).await;
    assert_eq!(raw.close_code().await, Some(1009));
}

#[tokio::test]
async fn a_text_frame_with_invalid_utf_8_closes_with_1007() {
    let server = TestServer::start().await;
    let eve = server.user("eve").await;
    let mut raw = RawSocket::open(eve.source, eve.server, eve.token(), None).await;
    raw.write(&masked(0x81, &[b'4', 0xff, 0xfe])).await;
    assert_eq!(raw.close_code().await, Some(1007));
}

#[tokio::test]
async fn a_message_in_many_tiny_fragments_closes_the_connection() {
    let server = TestServer::start().await;
    let eve = server.user("eve").await;
    let mut raw = RawSocket::open(eve.source, eve.server, eve.token(), None).await;
    let tiny: Vec<u8> = (0..10_000).flat_map(|_| masked(0x00, b"x")).collect();
    raw.write(&[masked(0x01, b"4"), tiny].concat()).await;
    let code = raw.close_code().await;
    assert!(matches!(code, Some(1002 | 1008 | 1009)), "{code:?}");
}
