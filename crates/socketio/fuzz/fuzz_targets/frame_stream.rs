//! Frames cut anywhere read the same as in one piece.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| socketio::fuzzing::frame_stream(data));
