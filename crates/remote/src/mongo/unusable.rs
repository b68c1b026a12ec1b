//! The error of a write to a collection in which documents must not be stored.

/// Why documents must not be stored in a collection: MongoDB deletes them, or is set to refuse them. Contains a phrase that follows
/// "MongoDB".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("MongoDB {0}")]
pub struct Unusable(pub String);
