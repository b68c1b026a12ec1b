//! The proxy between a raw client and a recording service, both on real sockets: forwarded requests, relayed responses, and
//! closing.

#![allow(clippy::unwrap_used)]

mod cut;
mod drain;
mod half_working;
mod nodes;
mod readiness;
mod requests;
mod responses;
mod support;
mod switched_service;
mod upgrades;
