//! The proxy between a raw client and a recording service, both on real sockets: forwarded requests, relayed responses, and
//! closing.

#![allow(clippy::unwrap_used)]

mod cut;
mod drain;
mod nodes;
mod requests;
mod responses;
mod support;
mod upgrades;
