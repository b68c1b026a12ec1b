//! Node names and leases.

use std::{str::FromStr, sync::Arc};

use crate::Error;

/// A node's name: 1 to 64 printable ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Node(Arc<str>);

/// The right of one stream to report for its node. It ends when a later stream of the node opens, or when it is not renewed in
/// time.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Lease {
    node: Node,
    generation: u64,
}

impl Node {
    const MAX: usize = 64;
    /// The node under which calls without a lease are counted.
    const UNARY: &str = "unary";

    pub(super) fn unary() -> Self {
        Self(Self::UNARY.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Lease {
    pub(super) fn new(node: Node, generation: u64) -> Self {
        Self { node, generation }
    }

    /// The lease of calls without a stream. It never expires.
    pub(super) fn unary() -> Self {
        Self::new(Node::unary(), 0)
    }

    /// The node that the stream reports for.
    pub fn node(&self) -> &Node {
        &self.node
    }
}

impl FromStr for Node {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let good = (1..=Self::MAX).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_graphic())
            && text != Self::UNARY;
        if good { Ok(Self(text.into())) } else { Err(Error::Node) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_name_is_short_printable_and_not_reserved() {
        assert!("chat-1.local:3000".parse::<Node>().is_ok());
        assert!("n".repeat(64).parse::<Node>().is_ok());
        for bad in ["", "a b", "a\n", "é", "unary", &"n".repeat(65)] {
            assert!(bad.parse::<Node>().is_err(), "{bad:?}");
        }
    }
}
