//! Who speaks for a node: its name, and the number of the stream that holds its lease. Used by the roster and its actor.

use std::{str::FromStr, sync::Arc};

use crate::Error;

/// A node's name: 1 to 64 printable ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Node(Arc<str>);

/// One stream's right to speak for its node, until a later stream takes it over or it is silent for too long.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Lease {
    node: Node,
    generation: u64,
}

impl Node {
    const MAX: usize = 64;
    /// The node under which the calls that hold no lease are counted.
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

    /// The standing of the calls that hold no lease; it never ends.
    pub(super) fn unary() -> Self {
        Self::new(Node::unary(), 0)
    }

    /// The node it speaks for.
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
    fn a_node_has_a_short_printable_name_that_is_not_the_reserved_one() {
        assert!("chat-1.local:3000".parse::<Node>().is_ok());
        assert!("n".repeat(64).parse::<Node>().is_ok());
        for bad in ["", "a b", "a\n", "é", "unary", &"n".repeat(65)] {
            assert!(bad.parse::<Node>().is_err(), "{bad:?}");
        }
    }
}
