//! The proxy between a raw client and a recording service, both on real sockets: what goes on, what comes back, and what ends when.

#![allow(clippy::unwrap_used)]

mod cut;
mod drain;
mod nodes;
mod requests;
mod responses;
mod stage;
mod upgrades;
