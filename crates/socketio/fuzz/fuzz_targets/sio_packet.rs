//! Socket.IO packets that decode encode to the same packet.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| socketio::fuzzing::sio_packet(data));
