//! Rosters by deployment: the service keeps a separate roster for each deployment that reports to it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use actix::{Actor, Addr, ArbiterHandle};
use proto::presence::DEPLOYMENT;
use tonic::{Status, metadata::MetadataMap};

use crate::{
    Error,
    actor::{Roster, Timings},
};

/// Maximum number of deployments besides the default one.
const MAX: usize = 64;

/// Maximum length of a deployment name in bytes.
const MAX_NAME: usize = 32;

/// The rosters of all deployments. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Rosters {
    /// Deployment of calls without a deployment.
    default_name: Arc<str>,
    default_roster: Addr<Roster>,
    others: Arc<Mutex<HashMap<String, Addr<Roster>>>>,
    arbiter: ArbiterHandle,
    timings: Timings,
}

impl Rosters {
    /// Uses `roster` for the deployment `name`, and starts rosters of other deployments on `arbiter`.
    pub fn new(name: &str, roster: Addr<Roster>, arbiter: ArbiterHandle, timings: Timings) -> Self {
        Self { default_name: name.into(), default_roster: roster, others: Arc::default(), arbiter, timings }
    }

    /// The roster of the deployment in a call's metadata; the default roster when the call contains no name.
    ///
    /// # Errors
    /// When the name is invalid, or the maximum number of deployments is reached.
    pub fn of(&self, metadata: &MetadataMap) -> Result<Addr<Roster>, Status> {
        let Some(name) = metadata.get(DEPLOYMENT) else { return Ok(self.default_roster.clone()) };
        let name = name.to_str().ok().filter(|name| is_name(name));
        let name = name.ok_or(Error::Report("the deployment name is invalid"))?;
        if name == &*self.default_name {
            return Ok(self.default_roster.clone());
        }
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(roster) = others.get(name) {
            return Ok(roster.clone());
        }
        if others.len() >= MAX {
            return Err(Status::resource_exhausted("too many deployments report to this presence service"));
        }
        tracing::info!(deployment = name, "first report of another deployment");
        let (timings, deployment) = (self.timings, name.to_owned());
        let roster = Roster::start_in_arbiter(&self.arbiter, move |_| Roster::of(&deployment, timings));
        others.insert(name.to_owned(), roster.clone());
        Ok(roster)
    }

    /// All rosters.
    pub fn all(&self) -> Vec<Addr<Roster>> {
        let others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        std::iter::once(&self.default_roster).chain(others.values()).cloned().collect()
    }
}

fn is_name(name: &str) -> bool {
    name.len() <= MAX_NAME && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}
