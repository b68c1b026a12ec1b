//! One roster for each deployment that reports here. Asked by the service for the roster of a call.

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

/// The maximum number of deployments beside the own one.
const MAX: usize = 64;

/// The maximum length of a deployment's name, in bytes.
const MAX_NAME: usize = 32;

/// See the module. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Rosters {
    /// The deployment of calls that name none.
    own: Arc<str>,
    first: Addr<Roster>,
    others: Arc<Mutex<HashMap<String, Addr<Roster>>>>,
    arbiter: ArbiterHandle,
    timings: Timings,
}

impl Rosters {
    /// The roster `first` of the deployment `own`; others are started on `arbiter`.
    pub fn new(own: &str, first: Addr<Roster>, arbiter: ArbiterHandle, timings: Timings) -> Self {
        Self { own: own.into(), first, others: Arc::default(), arbiter, timings }
    }

    /// The roster of the deployment that a call names; of the own one when it names none.
    ///
    /// # Errors
    /// When the name cannot be one, or there are too many deployments.
    pub fn of(&self, metadata: &MetadataMap) -> Result<Addr<Roster>, Status> {
        let Some(name) = metadata.get(DEPLOYMENT) else { return Ok(self.first.clone()) };
        let name = name.to_str().ok().filter(|name| is_name(name));
        let name = name.ok_or(Error::Report("the deployment has no name that can be one"))?;
        if name == &*self.own {
            return Ok(self.first.clone());
        }
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(roster) = others.get(name) {
            return Ok(roster.clone());
        }
        if others.len() >= MAX {
            return Err(Status::resource_exhausted("too many deployments report to this presence service"));
        }
        tracing::info!(deployment = name, "another deployment reports here");
        let (timings, deployment) = (self.timings, name.to_owned());
        let roster = Roster::start_in_arbiter(&self.arbiter, move |_| Roster::of(&deployment, timings));
        others.insert(name.to_owned(), roster.clone());
        Ok(roster)
    }

    /// All rosters there are.
    pub fn all(&self) -> Vec<Addr<Roster>> {
        let others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        std::iter::once(&self.first).chain(others.values()).cloned().collect()
    }
}

fn is_name(name: &str) -> bool {
    name.len() <= MAX_NAME && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}
