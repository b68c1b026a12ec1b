//! The roles behind a gateway: how a gateway recognizes them, and what to do when another program responds in place of one.

use std::fmt;

use proto::role_report::{ACCOUNTS, CHAT};

/// A role behind a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The accounts service.
    Accounts,
    /// A chat node.
    Chat,
}

impl Role {
    /// The name of the role in reports.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Accounts => ACCOUNTS,
            Self::Chat => CHAT,
        }
    }

    /// A path of this role only, which the role refuses to an anonymous caller with 401. Services of releases before the report
    /// are recognized by it.
    pub(super) fn private_path(self) -> &'static str {
        match self {
            Self::Accounts => "/user/me",
            Self::Chat => "/rooms",
        }
    }

    /// Why a service that reports the role `found` does not have this role, and the remedy. `found` is `None` for another program. Returns
    /// `None` when the roles are equal.
    pub(super) fn mismatch(self, found: Option<&str>) -> Option<String> {
        match found {
            Some(found) if found == self.name() => None,
            Some(found) => Some(format!("the role that responds is {found}, not {self}: {}", self.remedy())),
            None => Some(format!("another program responds, not {self}: {}", self.remedy())),
        }
    }

    /// What makes requests reach a service of this role.
    pub(super) fn remedy(self) -> &'static str {
        match self {
            Self::Accounts => {
                "--accounts-url (GODZILLA_ACCOUNTS_URL) must name the --listen address of accounts"
            }
            Self::Chat => "--advertise (GODZILLA_ADVERTISE) of the node must reach its --listen address",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Accounts => "accounts",
            Self::Chat => "a chat node",
        })
    }
}
