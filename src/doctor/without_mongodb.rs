//! The finding of a binary that was built without the roles on MongoDB.

use super::Finding;
use crate::{config::shared, error::WITHOUT_MONGODB};

/// The roles cannot run.
pub async fn examine(_: &shared::Mongo) -> Vec<Finding> {
    vec![Finding::error("this binary", WITHOUT_MONGODB)]
}
