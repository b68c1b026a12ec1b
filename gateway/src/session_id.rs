//! The Engine.IO session that a request names in its query. The only reader of `sid` outside of `socketio`. Pure.

use actix_web::web;
use cluster::Nodes;

/// The session that a query names, as a proxy reads it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Session {
    /// No session yet, or several ids, which the node refuses.
    New,
    /// A session on the node with this name.
    On(String),
    /// An id that no node can have created.
    Malformed,
}

/// The session of a request with this query. An id consists of random text, a dot and the name of its node.
pub(crate) fn session(query: &str) -> Session {
    let ids = session_ids(query);
    let [id] = &ids[..] else { return Session::New };
    let is_random =
        |id: &str| !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    match id.split_once('.') {
        Some((random, node)) if is_random(random) && Nodes::is_name(node) => Session::On(node.to_owned()),
        _ => Session::Malformed,
    }
}

/// Whether the request is part of an Engine.IO session. The id of a session is not guessable, so it suffices as a
/// credential: some clients send their credentials only with the handshake.
pub fn names_session(query: &str) -> bool {
    !session_ids(query).is_empty()
}

/// The session ids in a query, decoded. As in the reference implementation, an empty id opens a session, so it is left out.
fn session_ids(query: &str) -> Vec<String> {
    let pairs = web::Query::<Vec<(String, String)>>::from_query(query);
    let pairs = pairs.map(web::Query::into_inner).unwrap_or_default();
    pairs.into_iter().filter(|(name, id)| name == "sid" && !id.is_empty()).map(|(_, id)| id).collect()
}

#[cfg(test)]
mod tests;
