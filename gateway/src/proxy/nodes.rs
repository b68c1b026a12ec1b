//! Which chat nodes live, and which of them an Engine.IO session is on. Pure; somebody who knows keeps the table, the proxy asks.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
};

use super::backend::Backend;

/// A chat node that lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Where it is.
    pub backend: Backend,
    /// Whether it wants what is new; one that starts or ends answers only for the sessions that it has.
    pub is_open: bool,
}

/// The chat nodes that live, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Nodes(BTreeMap<String, Node>);

/// What a query says of the session that it is for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Session<'a> {
    /// There is none yet, or so many that the node has to say what is wrong.
    Unnamed,
    /// One on this node.
    On(&'a str),
    /// One that no node can have given.
    Malformed,
}

/// The longest name of a node: that of a host.
const NAME: usize = 63;

impl Nodes {
    /// The table of these nodes.
    pub fn new(nodes: impl IntoIterator<Item = (String, Node)>) -> Self {
        Self(nodes.into_iter().collect())
    }

    /// Whether one wants what is new.
    pub fn has_open(&self) -> bool {
        self.open().next().is_some()
    }

    /// Whether a node may be called so: Engine.IO ids end in its name, behind a dot.
    pub fn is_name(text: &str) -> bool {
        (1..=NAME).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    }

    /// All nodes, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.0.iter().map(|(name, node)| (name.as_str(), node))
    }

    /// The node of this name.
    pub fn get(&self, name: &str) -> Option<&Node> {
        self.0.get(name)
    }

    /// Those that want what is new.
    fn open(&self) -> impl Iterator<Item = (&str, &Backend)> {
        self.iter().filter(|(_, node)| node.is_open).map(|(name, node)| (name, &node.backend))
    }

    /// All open nodes once, in an order that is `whose` own and hardly changes when nodes come and go: who is first stays first, and the
    /// sockets of a node that goes are spread over all others (highest random weight). Every gateway finds the same order.
    pub(super) fn preferred(&self, whose: &str) -> impl Iterator<Item = &Backend> {
        let weight = |name: &str| {
            // Without a random state: the same everywhere.
            let mut hasher = DefaultHasher::new();
            (whose, name).hash(&mut hasher);
            hasher.finish()
        };
        let mut nodes: Vec<_> = self.open().map(|(name, backend)| (weight(name), backend)).collect();
        nodes.sort_unstable_by_key(|(weight, _)| std::cmp::Reverse(*weight));
        nodes.into_iter().map(|(_, backend)| backend)
    }

    /// All open nodes once, beginning with another one for every next `turn`.
    pub(super) fn in_turn(&self, turn: usize) -> impl Iterator<Item = &Backend> {
        let mut nodes: Vec<_> = self.open().map(|(_, backend)| backend).collect();
        let first = turn.checked_rem(nodes.len()).unwrap_or(0);
        nodes.rotate_left(first);
        nodes.into_iter()
    }
}

/// The session that these query parameters name. The id is random text and, behind a dot, its node.
pub(super) fn session(pairs: &[(String, String)]) -> Session<'_> {
    // As in the reference, an empty id is none.
    let mut ids = pairs.iter().filter(|(name, sid)| name == "sid" && !sid.is_empty()).map(|(_, sid)| sid);
    let (Some(sid), None) = (ids.next(), ids.next()) else { return Session::Unnamed };
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

    fn pairs(query: &str) -> Vec<(String, String)> {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn a_session_is_on_the_node_that_its_id_ends_in() {
        let id = "0a".repeat(16);
        assert_eq!(session(&pairs(&format!("EIO=4&sid={id}.chat-1&t=x"))), Session::On("chat-1"));
        for none in ["EIO=4", "", "sid=", "sid=a.b&sid=a.c", "sid[]=a.b"] {
            assert_eq!(session(&pairs(none)), Session::Unnamed, "{none}");
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
            assert_eq!(session(&pairs(&format!("sid={bad}"))), Session::Malformed, "{bad}");
        }
    }

    #[test]
    fn everybody_has_a_node_of_their_own_and_keeps_it_when_another_goes() {
        let backend = |n: usize| format!("http://h:{}", 1000 + n).parse::<Backend>().unwrap();
        let name = |n: usize| format!("chat-{n}");
        let node = |n: usize, is_open| (name(n), Node { backend: backend(n), is_open });
        let nodes = Nodes::new((0..5).map(|n| node(n, true)));
        let fewer = Nodes::new((0..5).map(|n| node(n, n != 4)));
        assert!(
            fewer.get("chat-4").is_some() && fewer.has_open() && !Nodes::new([node(4, false)]).has_open()
        );
        let mut users = [0; 5];
        for user in (0..1000).map(|n| format!("user{n}")) {
            let order: Vec<_> = nodes.preferred(&user).cloned().collect();
            let first = (0..5).find(|n| order[0] == backend(*n)).unwrap();
            users[first] += 1;
            let rest: Vec<_> = order.iter().filter(|node| **node != backend(4)).cloned().collect();
            assert_eq!(fewer.preferred(&user).cloned().collect::<Vec<_>>(), rest, "{user}");
        }
        assert!(users.iter().all(|count| (120..280).contains(count)), "{users:?}");
    }

    #[test]
    fn every_node_has_its_turn() {
        let backend = |port: u16| format!("http://h:{port}").parse::<Backend>().unwrap();
        let node = |name: &str, port| (name.to_owned(), Node { backend: backend(port), is_open: port < 9 });
        let nodes = Nodes::new([node("a", 1), node("b", 2), node("c", 9)]);
        let turns = |turn| nodes.in_turn(turn).cloned().collect::<Vec<_>>();
        assert_eq!(turns(0), [backend(1), backend(2)]);
        assert_eq!(turns(1), [backend(2), backend(1)]);
        assert_eq!(turns(usize::MAX), turns(1));
        assert_eq!(Nodes::default().in_turn(7).count(), 0);
    }
}
