//! The values in the reports of services that must fit those of other services or of this gateway: one table with what each value is
//! compared with, and the remedy. Used by [`super::role_reports`].

use proto::{
    RoleReport,
    role_report::{ACCOUNTS, CHAT},
};

/// The values of this gateway that services must fit.
#[derive(Debug, Clone, Default)]
pub(super) struct Own {
    /// The id of Redis. `None` before it is read.
    pub(super) redis_id: Option<String>,
    /// The limits. `None` when services are not compared with them.
    pub(super) limits: Option<Limits>,
}

/// The largest bodies that this gateway forwards, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// `--payload-limit`: a polling request.
    pub(super) payload: u64,
    /// `--body-limit`: every other request.
    pub(super) body: u64,
}

/// What follows from a mismatch. In each case `/readyz` of the gateway names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// The service is of another deployment. It gets no requests.
    Excluded,
    /// The service is of another deployment.
    Foreign,
    /// The service is of this deployment.
    Degraded,
}

/// A value of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value<'a> {
    /// Ids must be equal.
    Id(&'a str),
    /// The limit of a service, in bytes, must be at most the limit of the gateway.
    Limit(u64),
}

/// What a value is compared with.
#[derive(Clone, Copy)]
enum Peers {
    /// The value of this gateway.
    Gateway(fn(&Own) -> Option<Value<'_>>),
    /// The value of accounts, and for accounts that of every node. Nodes are compared with each other while accounts reports no value.
    Accounts,
    /// The values of all services.
    Services,
}

/// A row of [`TABLE`]. In texts `{own}` is the value of the service, `{other}` the value that it does not fit, `{peer}` the name of the other
/// service.
struct Row {
    of: fn(&RoleReport) -> Option<Value<'_>>,
    peers: Peers,
    effect: Effect,
    text: &'static str,
    remedy: &'static str,
}

/// The values. A service of a release without a value is not compared.
const TABLE: &[Row] = &[
    Row {
        of: |report| report.redis_id.as_deref().map(Value::Id),
        peers: Peers::Gateway(|own| own.redis_id.as_deref().map(Value::Id)),
        effect: Effect::Excluded,
        text: "uses another Redis, or another part of it, than this gateway",
        remedy: "give all roles the same --redis-url (GODZILLA_REDIS_URL), with its database number, and the same --deployment (GODZILLA_DEPLOYMENT)",
    },
    Row {
        of: |report| report.database_id.as_deref().map(Value::Id),
        peers: Peers::Accounts,
        effect: Effect::Foreign,
        text: "uses another database of MongoDB than {peer}",
        remedy: "give all roles the same --mongo-uri (GODZILLA_MONGO_URI) and the same --deployment (GODZILLA_DEPLOYMENT)",
    },
    // While the presence service restarts, nodes may report different ids for a second.
    Row {
        of: |report| report.presence_id.as_deref().map(Value::Id),
        peers: Peers::Services,
        effect: Effect::Degraded,
        text: "reports to another presence service than {peer}",
        remedy: "run one presence service, and give all chat nodes the same --presence-url (GODZILLA_PRESENCE_URL)",
    },
    Row {
        of: |report| report.payload_limit.map(Value::Limit),
        peers: Peers::Gateway(|own| own.limits.map(|limits| Value::Limit(limits.payload))),
        effect: Effect::Degraded,
        text: "accepts messages of {own} bytes, and this gateway refuses polling requests of more than {other} bytes",
        remedy: "give gateways and chat nodes the same --payload-limit (GODZILLA_PAYLOAD_LIMIT)",
    },
    Row {
        of: |report| report.body_limit.map(Value::Limit),
        peers: Peers::Gateway(|own| own.limits.map(|limits| Value::Limit(limits.body))),
        effect: Effect::Degraded,
        text: "accepts request bodies of {own} bytes, and this gateway refuses more than {other} bytes",
        remedy: "raise --body-limit (GODZILLA_BODY_LIMIT) of the gateway, or lower --text-limit (GODZILLA_TEXT_LIMIT) of chat nodes and --login-body-limit (GODZILLA_LOGIN_BODY_LIMIT) of accounts",
    },
];

/// Why the values of `report` do not fit those of `others`, which are named, or those of this gateway: the first row of the table with an
/// effect that `counts`.
pub(super) fn mismatch<'a>(
    report: &RoleReport,
    others: impl Iterator<Item = (String, &'a RoleReport)> + Clone,
    own: &Own,
    counts: impl Fn(Effect) -> bool,
) -> Option<String> {
    TABLE.iter().filter(|row| counts(row.effect)).find_map(|row| row.mismatch(report, others.clone(), own))
}

impl Row {
    fn mismatch<'a>(
        &self,
        report: &RoleReport,
        others: impl Iterator<Item = (String, &'a RoleReport)> + Clone,
        own: &Own,
    ) -> Option<String> {
        let value = (self.of)(report)?;
        let has_role =
            |other: &RoleReport, role| other.role.as_deref() == Some(role) && (self.of)(other).is_some();
        let compared: &[&str] = match self.peers {
            Peers::Gateway(of) => {
                let other = of(own)?;
                return (!value.fits(other)).then(|| self.describe(value, other, "this gateway"));
            }
            Peers::Accounts => {
                let has_accounts = others.clone().any(|(_, other)| has_role(other, ACCOUNTS));
                let is_accounts = report.role.as_deref() == Some(ACCOUNTS);
                if has_accounts && !is_accounts { &[ACCOUNTS] } else { &[CHAT] }
            }
            Peers::Services => &[ACCOUNTS, CHAT],
        };
        let (peer, other) = others
            .filter(|(_, other)| compared.iter().any(|role| has_role(other, role)))
            .filter_map(|(name, other)| Some((name, (self.of)(other)?)))
            .filter(|(_, other)| !value.fits(*other))
            .min_by(|(one, _), (other, _)| one.cmp(other))?;
        Some(self.describe(value, other, &peer))
    }

    fn describe(&self, own: Value<'_>, other: Value<'_>, peer: &str) -> String {
        let text = self.text.replace("{own}", &own.text()).replace("{other}", &other.text());
        format!("{}: {}", text.replace("{peer}", peer), self.remedy)
    }
}

impl Value<'_> {
    /// Whether this value of a service fits `other`. Values of different kinds are not compared.
    fn fits(self, other: Value<'_>) -> bool {
        match (self, other) {
            (Self::Id(own), Value::Id(other)) => own == other,
            (Self::Limit(own), Value::Limit(other)) => own <= other,
            (Self::Id(_) | Self::Limit(_), _) => true,
        }
    }

    fn text(self) -> String {
        match self {
            Self::Id(id) => id.to_owned(),
            Self::Limit(bytes) => bytes.to_string(),
        }
    }
}
