//! The WebSocket frame guard agrees with a second reading of RFC 6455, however the bytes are cut.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| socketio::fuzzing::frame_guard(data));
