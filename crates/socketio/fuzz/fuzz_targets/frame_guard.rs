//! The WebSocket frame guard agrees with a second implementation of RFC 6455 for any chunk size.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| socketio::fuzzing::frame_guard(data));
