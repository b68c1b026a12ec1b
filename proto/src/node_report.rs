//! The state of a chat node that its response to the probe of a gateway contains. The response has status 404 and the body of a
//! [`Refusal`](crate::Refusal), as the releases without this report expect, with the fields of [`NodeReport`] added.

use serde::{Deserialize, Serialize};

/// The path of a probe.
pub const PATH: &str = "/healthz";

/// The maximum length of the cause, in characters.
const MAX_CAUSE: usize = 512;

/// The state of a node. A field that the response does not contain is `None`: a node of an older release is ready.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NodeReport {
    /// The name of the node.
    pub node: Option<String>,
    /// Why the node is not ready. `None` when it is. At most 512 characters.
    pub not_ready: Option<String>,
}

impl NodeReport {
    /// The report of a node.
    pub fn new(node: &str, not_ready: Option<String>) -> Self {
        Self { node: Some(node.to_owned()), not_ready: not_ready.map(|cause| brief(&cause)) }
    }

    /// The report in the body of a response. Without fields when the body has no report.
    pub fn parse(body: &[u8]) -> Self {
        let Self { node, not_ready } = serde_json::from_slice(body).unwrap_or_default();
        Self { node, not_ready: not_ready.map(|cause| brief(&cause)) }
    }
}

/// The first [`MAX_CAUSE`] characters, without control characters.
fn brief(cause: &str) -> String {
    cause.chars().filter(|character| !character.is_control()).take(MAX_CAUSE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_without_a_report_is_a_ready_node_without_a_name() {
        let long = "x".repeat(MAX_CAUSE + 1);
        let full = NodeReport::new("n1", Some(format!("\r\n{long}")));
        assert_eq!(full.not_ready.as_deref(), Some(&long[1..]));
        assert_eq!(NodeReport::parse(&serde_json::to_vec(&full).unwrap()), full);
        let named = NodeReport::new("n1", None);
        let rows: [(&str, NodeReport); 6] = [
            ("", NodeReport::default()),
            ("{}", NodeReport::default()),
            ("<html>", NodeReport::default()),
            (r#"{"status":"error","code":404,"message":"Not Found"}"#, NodeReport::default()),
            (r#"{"node":7}"#, NodeReport::default()),
            (r#"{"status":"error","code":404,"node":"n1","notReady":null,"later":1}"#, named),
        ];
        for (body, report) in rows {
            assert_eq!(NodeReport::parse(body.as_bytes()), report, "{body}");
        }
    }
}
