//! Connection state recovery, case by case, with the unmodified official client, and requests that only a modified client sends.
//! [`storm`]: many clients reconnect under load.

mod foreign_sessions;
mod rows;
mod storm;
