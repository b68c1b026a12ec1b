//! The row of MongoDB in a binary that was built without it.

use futures_util::{FutureExt, future::ready};

use remote::Deployment;

use super::{Backend, StoreUrl};
use crate::{
    doctor::Finding,
    error::{Error, WITHOUT_MONGODB},
};

/// The roles on MongoDB cannot run.
pub const BACKEND: Backend = Backend {
    schemes: &["mongodb", "mongodb+srv"],
    form: "mongodb://host/database?replicaSet=name",
    open_embedded: None,
    open_shared: Some(|_, _, _| ready(Err(Error::Config(WITHOUT_MONGODB.to_owned()))).boxed_local()),
    migrate: Some(|_, _| ready(Err(Error::Config(WITHOUT_MONGODB.to_owned()))).boxed_local()),
    examine: |_, _| ready(vec![Finding::error("this binary", WITHOUT_MONGODB)]).boxed_local(),
};

/// No rooms are stored.
pub async fn refusal(_: &StoreUrl, _: &Deployment) -> Option<String> {
    None
}

/// No id is stored.
pub async fn stored_id(_: &StoreUrl, _: &Deployment) -> Option<Option<String>> {
    None
}
