//! Long-polling bodies split into packets that join to the same body; frames become bodies.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| socketio::fuzzing::eio_payload(data));
