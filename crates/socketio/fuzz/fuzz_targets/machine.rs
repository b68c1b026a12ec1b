//! No order of inputs leads the state machines of a session to an illegal state.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| socketio::fuzzing::machine(data));
