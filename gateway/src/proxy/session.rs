//! The node of an Engine.IO session. Pure.

use cluster::Nodes;

/// The session that a query names.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Session<'a> {
    /// No session yet, or several ids, which the node refuses.
    New,
    /// A session on this node.
    On(&'a str),
    /// An id that no node can have created.
    Malformed,
}

/// The session of a request with these ids. An id consists of random text, a dot and the name of its node.
pub(super) fn session(ids: &[String]) -> Session<'_> {
    let [sid] = ids else { return Session::New };
    let random =
        |id: &str| !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    match sid.split_once('.') {
        Some((id, node)) if random(id) && Nodes::is_name(node) => Session::On(node),
        _ => Session::Malformed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session_id::session_ids;

    #[test]
    fn the_suffix_of_a_session_id_names_its_node() {
        let id = "0a".repeat(16);
        assert_eq!(session(&session_ids(&format!("EIO=4&sid={id}.chat-1&t=x"))), Session::On("chat-1"));
        for none in ["EIO=4", "", "sid=", "sid=a.b&sid=a.c", "sid[]=a.b"] {
            assert_eq!(session(&session_ids(none)), Session::New, "{none}");
        }
        let long = "a".repeat(64);
        let bad = [
            "abc",
            "abc.",
            ".node",
            "abc.no.de",
            "a c.node",
            "abc.no_de",
            "__proto__",
            "a\0.b",
            &format!("a.{long}"),
        ];
        for bad in bad {
            assert_eq!(session(&[bad.to_owned()]), Session::Malformed, "{bad}");
        }
    }
}
