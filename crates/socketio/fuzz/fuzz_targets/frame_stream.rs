//! The decoded frames do not depend on the chunks.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| socketio::fuzzing::frame_stream(data));
