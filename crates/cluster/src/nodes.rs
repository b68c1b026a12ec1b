//! The table of live chat nodes, and the order in which a gateway tries them. Pure. [`crate::Watcher`] maintains the table.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
};

use crate::backend::Backend;

/// A live chat node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The address of the node.
    pub backend: Backend,
    /// Whether the node accepts new sessions. A starting or draining node serves only its existing sessions.
    pub is_open: bool,
}

/// The live chat nodes, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Nodes(BTreeMap<String, Node>);

/// The maximum length of a node name, in bytes: that of a host name.
const MAX_NAME: usize = 63;

impl Nodes {
    /// The table of these nodes.
    pub fn new(nodes: impl IntoIterator<Item = (String, Node)>) -> Self {
        Self(nodes.into_iter().collect())
    }

    /// Whether any node accepts new sessions.
    pub fn has_open(&self) -> bool {
        self.open().next().is_some()
    }

    /// Whether the text is a valid node name. Engine.IO ids end with a dot and the node name.
    pub fn is_name(text: &str) -> bool {
        (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    }

    /// All nodes, ordered by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.0.iter().map(|(name, node)| (name.as_str(), node))
    }

    /// The node with this name.
    pub fn get(&self, name: &str) -> Option<&Node> {
        self.0.get(name)
    }

    /// The nodes that accept new sessions.
    fn open(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.iter().filter(|(_, node)| node.is_open)
    }

    /// All nodes in the order of preference of `key` (rendezvous hashing, highest random weight). When nodes are added or
    /// removed, the relative order of the others stays the same, and the sockets of a removed node are distributed over all
    /// others. Every gateway computes the same order.
    pub fn preferred(&self, key: &str) -> impl Iterator<Item = (&str, &Node)> {
        let weight = |name: &str| {
            // The hasher has no random state, so that all gateways compute the same weights.
            let mut hasher = DefaultHasher::new();
            (key, name).hash(&mut hasher);
            hasher.finish()
        };
        let mut nodes: Vec<_> = self.iter().map(|(name, node)| (weight(name), (name, node))).collect();
        nodes.sort_unstable_by_key(|(weight, _)| std::cmp::Reverse(*weight));
        nodes.into_iter().map(|(_, node)| node)
    }

    /// All nodes. Each next `turn` begins with the next open node.
    pub fn in_turn(&self, turn: usize) -> impl Iterator<Item = (&str, &Node)> {
        let mut nodes: Vec<_> = self.open().collect();
        let first = turn.checked_rem(nodes.len()).unwrap_or(0);
        nodes.rotate_left(first);
        nodes.into_iter().chain(self.iter().filter(|(_, node)| !node.is_open))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_user_keeps_its_node_when_another_node_closes() {
        let backend = |n: usize| format!("http://h:{}", 1000 + n).parse::<Backend>().unwrap();
        let name = |n: usize| format!("chat-{n}");
        let node = |n: usize, is_open| (name(n), Node { backend: backend(n), is_open });
        let nodes = Nodes::new((0..5).map(|n| node(n, true)));
        let fewer = Nodes::new((0..5).map(|n| node(n, n != 4)));
        assert!(
            fewer.get("chat-4").is_some() && fewer.has_open() && !Nodes::new([node(4, false)]).has_open()
        );
        let open = |nodes: &Nodes, user: &str| -> Vec<Backend> {
            let nodes = nodes.preferred(user).filter(|(_, node)| node.is_open);
            nodes.map(|(_, node)| node.backend.clone()).collect()
        };
        let mut users = [0; 5];
        for user in (0..1000).map(|n| format!("user{n}")) {
            let order = open(&nodes, &user);
            let first = (0..5).find(|n| order[0] == backend(*n)).unwrap();
            users[first] += 1;
            let rest: Vec<_> = order.iter().filter(|node| **node != backend(4)).cloned().collect();
            assert_eq!(open(&fewer, &user), rest, "{user}");
            let all: Vec<_> = fewer.preferred(&user).map(|(_, node)| node.backend.clone()).collect();
            assert_eq!(all, order, "{user}: a closed node keeps its place");
        }
        assert!(users.iter().all(|count| (120..280).contains(count)), "{users:?}");
    }

    #[test]
    fn nodes_are_selected_in_turn() {
        let backend = |port: u16| format!("http://h:{port}").parse::<Backend>().unwrap();
        let node = |name: &str, port| (name.to_owned(), Node { backend: backend(port), is_open: port < 9 });
        let nodes = Nodes::new([node("a", 1), node("b", 2), node("c", 9)]);
        let turns = |turn| nodes.in_turn(turn).map(|(_, node)| node.backend.clone()).collect::<Vec<_>>();
        assert_eq!(turns(0), [backend(1), backend(2), backend(9)]);
        assert_eq!(turns(1), [backend(2), backend(1), backend(9)]);
        assert_eq!(turns(usize::MAX), turns(1));
        assert_eq!(Nodes::default().in_turn(7).count(), 0);
    }
}
