//! The Engine.IO session that a request names in its query. The only reader of `sid` outside of `socketio`.

use actix_web::web;

/// The session ids in a query, decoded. As in the reference implementation, an empty id opens a session, so it is left out.
pub(crate) fn session_ids(query: &str) -> Vec<String> {
    let pairs = web::Query::<Vec<(String, String)>>::from_query(query);
    let pairs = pairs.map(web::Query::into_inner).unwrap_or_default();
    pairs.into_iter().filter(|(name, id)| name == "sid" && !id.is_empty()).map(|(_, id)| id).collect()
}

/// Whether the request is part of an Engine.IO session. The id of a session is not guessable, so it suffices as a
/// credential: some clients send their credentials only with the handshake.
pub fn names_session(query: &str) -> bool {
    !session_ids(query).is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_id_with_text_names_a_session() {
        for named in ["sid=a", "EIO=4&sid=a.b&t=x", "sid=&sid=a", "s%69d=a", "sid=%61"] {
            assert!(names_session(named), "{named}");
        }
        for opens in
            ["", "EIO=4&transport=polling", "sid=", "sid=&t=x", "xsid=a", "sid", "sid[]=a", "t=sid=a"]
        {
            assert!(!names_session(opens), "{opens}");
        }
        assert_eq!(session_ids("sid=a%2Eb&sid=c"), ["a.b", "c"]);
    }
}
