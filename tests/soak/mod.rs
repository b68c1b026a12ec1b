//! The long tests, which `scripts/soak` runs: storms of clients, proxies, clients that take long to build.

mod proxies;
mod rust_client;
mod slow_readers;
