//! A collection whose writes are recorded: the type has no method that writes without [`Refusals`].

use futures_util::TryStreamExt;
use mongodb::{
    Collection, IndexModel,
    action::{Aggregate, CountDocuments, Find, FindOne},
    bson::Document,
    error::Error as MongoError,
    results::{CreateIndexesResult, DeleteResult, InsertManyResult, InsertOneResult, UpdateResult},
};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    Refusals, StoreGate,
    duplicates::OwnIndexes,
    trial::{Operation, Trial},
};

/// A collection. Writes are acknowledged once they are in the journals of a majority; reads use the primary and read concern "majority".
/// Cheap to clone.
#[derive(Debug)]
pub struct Documents<T: Send + Sync> {
    documents: Collection<T>,
    refusals: Refusals,
    gate: StoreGate,
    own: OwnIndexes,
}

impl<T: Send + Sync> Clone for Documents<T> {
    fn clone(&self) -> Self {
        Self {
            documents: self.documents.clone(),
            refusals: self.refusals.clone(),
            gate: self.gate.clone(),
            own: self.own,
        }
    }
}

impl<T: Send + Sync> Documents<T> {
    pub(super) fn new(documents: Collection<T>, refusals: Refusals, gate: StoreGate) -> Self {
        Self { documents, refusals, gate, own: OwnIndexes::default() }
    }

    /// Sets the names of the unique indexes of this collection besides that of `_id`.
    #[must_use]
    pub fn with_unique_indexes(self, own: &'static [&'static str]) -> Self {
        Self { own: OwnIndexes(own), ..self }
    }

    /// Whether a write was refused because a document with the same `_id`, or the same key of another unique index of this collection,
    /// exists already. `false` for a unique index of another program, whose refusals are faults of the store.
    pub fn is_duplicate(&self, error: &MongoError) -> bool {
        self.own.refuse(error)
    }

    /// Sets the document of trial writes, which has the form of the documents that are written, and an `_id` of its own. Refused writes
    /// to a collection without it expire instead.
    #[must_use]
    pub fn with_trial(self, document: fn() -> Document) -> Self {
        let documents = self.documents.clone_with_type();
        self.refusals.set_trial(self.documents.name(), Trial { documents, document, own: self.own });
        self
    }

    /// Marks an operation as optional: while MongoDB refuses it, the role is ready and degraded. `effect` states what clients lose, in lower
    /// case, such as "changes of ended rooms are kept".
    #[must_use]
    pub fn with_optional(self, operation: Operation, effect: &'static str) -> Self {
        self.refusals.set_optional(self.documents.name(), operation, effect);
        self
    }

    /// The cause and effect of the refusal of an optional write, as a phrase that follows "MongoDB". `None` when the last one was accepted.
    pub fn refusal(&self, operation: Operation) -> Option<String> {
        self.refusals.of_optional(self.documents.name(), operation)
    }

    /// The same collection with documents of another type.
    pub fn clone_with_type<U: Send + Sync>(&self) -> Documents<U> {
        let documents = self.documents.clone_with_type();
        let (refusals, gate) = (self.refusals.clone(), self.gate.clone());
        Documents { documents, refusals, gate, own: self.own }
    }

    /// Runs a write and records its result for readiness. A write that is cancelled before its result counts if it took 2 s or more.
    ///
    /// # Errors
    /// The error of `write`, that the gate of the role is closed, or that documents must not be stored in the collection.
    pub async fn write<R: WriteResult>(
        &self,
        operation: Operation,
        write: impl AsyncFnOnce(Collection<T>) -> Result<R, MongoError>,
    ) -> Result<R, MongoError> {
        self.gate.check().map_err(MongoError::custom)?;
        if matches!(operation, Operation::Insert | Operation::Update) {
            self.refusals.check_usable(self.documents.name()).map_err(MongoError::custom)?;
        }
        let begun = self.refusals.begin(self.documents.name(), operation, self.own);
        let result = write(self.documents.clone()).await;
        match &result {
            Ok(written) if !written.has_written() => begun.ignore(),
            result => begun.finish(result.as_ref().err()),
        }
        result
    }

    /// The indexes.
    ///
    /// # Errors
    /// When MongoDB does not answer, or the collection does not exist.
    pub async fn indexes(&self) -> Result<Vec<IndexModel>, MongoError> {
        self.documents.list_indexes().await?.try_collect().await
    }

    /// The name of the collection.
    pub fn name(&self) -> &str {
        self.documents.name()
    }

    /// Finds an aggregate of documents, with stages that do not write.
    pub fn aggregate(&self, stages: impl IntoIterator<Item = Document>) -> Aggregate<'_> {
        self.documents.aggregate(stages)
    }

    /// Counts documents.
    pub fn count_documents(&self, filter: Document) -> CountDocuments<'_> {
        self.documents.count_documents(filter)
    }

    /// Finds documents.
    pub fn find(&self, filter: Document) -> Find<'_, T> {
        self.documents.find(filter)
    }

    /// Finds a document.
    pub fn find_one(&self, filter: Document) -> FindOne<'_, T>
    where
        T: DeserializeOwned,
    {
        self.documents.find_one(filter)
    }
}

/// The result of a write.
pub trait WriteResult {
    /// Whether the write has reached a document. A write that matches no document is answered also by a collection that refuses writes, so
    /// it does not show that MongoDB accepts them.
    fn has_written(&self) -> bool {
        true
    }
}

impl WriteResult for () {}
impl WriteResult for InsertOneResult {}
impl WriteResult for InsertManyResult {}
impl WriteResult for CreateIndexesResult {}

impl WriteResult for UpdateResult {
    fn has_written(&self) -> bool {
        self.matched_count > 0 || self.upserted_id.is_some()
    }
}

impl WriteResult for DeleteResult {
    fn has_written(&self) -> bool {
        self.deleted_count > 0
    }
}

/// The document of `find_one_and_update`.
impl<T> WriteResult for Option<T> {
    fn has_written(&self) -> bool {
        self.is_some()
    }
}

/// The document of a trial write that has the fields of `row`.
///
/// # Panics
/// When `row` is not a document, which is a programming error.
pub fn trial_of(row: impl Serialize) -> Document {
    mongodb::bson::serialize_to_document(&row).expect("rows are documents")
}
