//! The state of a service that its response to the probe of a gateway contains: its role, and why it is not ready. The response has
//! status 404 and the body of a [`Refusal`](crate::Refusal), as the releases without this report expect, with the fields of
//! [`RoleReport`] added.

use serde::{Deserialize, Serialize};

/// The path of a probe.
pub const PATH: &str = "/healthz";

/// The role of accounts in a report.
pub const ACCOUNTS: &str = "accounts";

/// The role of a chat node in a report.
pub const CHAT: &str = "chat";

/// The maximum length of the role and of the cause, in characters.
const MAX_TEXT: usize = 512;

/// The state of a service. A field that the response does not contain is `None`: a service of an older release is ready.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RoleReport {
    /// The role of the service, [`ACCOUNTS`] or [`CHAT`]. Gateways read the role of a service without it from the service's routes.
    pub role: Option<String>,
    /// The name of a chat node.
    pub node: Option<String>,
    /// Why the service is not ready. `None` when it is. At most 512 characters.
    pub not_ready: Option<String>,
    /// The id of the Redis that the service uses, for its deployment. `None` before it is read, and in an older release.
    pub redis_id: Option<String>,
    /// The id of the database of MongoDB that the service uses, for its deployment. `None` as for `redis_id`.
    pub database_id: Option<String>,
    /// The id of the presence service to which a chat node reports. `None` while it reports to no service, and in an older release.
    pub presence_id: Option<String>,
    /// The largest message that a chat node accepts from a client, in bytes. `None` for other roles, and in an older release.
    pub payload_limit: Option<u64>,
    /// The largest request body that a route of the service accepts, in bytes. `None` in an older release.
    pub body_limit: Option<u64>,
}

impl RoleReport {
    /// The report of a service of `role` that is ready. `node` is the name of a chat node.
    pub fn new(role: &str, node: Option<&str>) -> Self {
        Self { role: Some(role.to_owned()), node: node.map(str::to_owned), ..Self::default() }
    }

    /// This report with the cause `not_ready`, which is `None` when the service is ready.
    #[must_use]
    pub fn with_cause(self, not_ready: Option<String>) -> Self {
        Self { not_ready: not_ready.map(|cause| brief(&cause)), ..self }
    }

    /// This report with the ids of the stores in use.
    #[must_use]
    pub fn with_stores(self, redis_id: Option<String>, database_id: Option<String>) -> Self {
        Self { redis_id, database_id, ..self }
    }

    /// This report with the id of the presence service to which a chat node reports.
    #[must_use]
    pub fn with_presence(self, presence_id: Option<String>) -> Self {
        Self { presence_id, ..self }
    }

    /// This report with the largest message of a client and the largest request body, in bytes.
    #[must_use]
    pub fn with_limits(self, payload_limit: Option<u64>, body_limit: Option<u64>) -> Self {
        Self { payload_limit, body_limit, ..self }
    }

    /// The report in the body of a response. Without fields when the body has no report. A chat node of an older release reports its
    /// name only.
    pub fn parse(body: &[u8]) -> Self {
        let parsed: Self = serde_json::from_slice(body).unwrap_or_default();
        let Self { role, node, not_ready, redis_id, database_id, presence_id, .. } = parsed;
        let text = |text: Option<String>| text.map(|text| brief(&text));
        let role = text(role).or_else(|| node.is_some().then(|| CHAT.to_owned()));
        Self {
            role,
            node,
            not_ready: text(not_ready),
            redis_id: text(redis_id),
            database_id: text(database_id),
            presence_id: text(presence_id),
            payload_limit: parsed.payload_limit,
            body_limit: parsed.body_limit,
        }
    }
}

/// The first [`MAX_TEXT`] characters, without control characters.
fn brief(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(MAX_TEXT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_without_a_report_is_a_ready_service_without_a_role() {
        let long = "x".repeat(MAX_TEXT + 1);
        let full = RoleReport::new(CHAT, Some("n1")).with_cause(Some(format!("\r\n{long}")));
        let full = full.with_stores(Some("5e".to_owned()), Some("0d".to_owned()));
        let full = full.with_presence(Some("77".to_owned())).with_limits(Some(65_536), Some(50_000));
        assert_eq!(full.not_ready.as_deref(), Some(&long[1..]));
        assert_eq!(RoleReport::parse(&serde_json::to_vec(&full).unwrap()), full);
        let rows: [(&str, RoleReport); 8] = [
            ("", RoleReport::default()),
            ("{}", RoleReport::default()),
            ("<html>", RoleReport::default()),
            (r#"{"status":"error","code":404,"message":"Not Found"}"#, RoleReport::default()),
            (r#"{"node":7}"#, RoleReport::default()),
            // A chat node of an older release.
            (r#"{"code":404,"node":"n1","notReady":null,"later":1}"#, RoleReport::new(CHAT, Some("n1"))),
            (r#"{"code":404,"role":"accounts","node":null}"#, RoleReport::new(ACCOUNTS, None)),
            (r#"{"code":404,"role":"later"}"#, RoleReport::new("later", None)),
        ];
        for (body, report) in rows {
            assert_eq!(RoleReport::parse(body.as_bytes()), report, "{body}");
        }
    }
}
