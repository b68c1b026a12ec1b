//! The indexes of `rooms`, `members` and `changes`. They can be dropped while the process runs. The nodes poll for changes twice a second, which creates missing
//! indexes again.

use mongodb::{IndexModel, bson::doc, options::IndexOptions};
use remote::mongo::Operation;
use tokio::time::Instant;

use super::{COLLECTION, MongoDirectory, change_log};
use crate::{
    Error,
    mongo::{PREPARATION, deadline_now, unprepared, with_deadline},
};

impl MongoDirectory {
    /// Creates the missing indexes: of members, of a user's rooms, of the memberships that a user has created for others, of departures, and
    /// of recent changes.
    ///
    /// # Errors
    /// [`Error::Store`] when MongoDB does not answer or refuses.
    pub async fn prepare(&self) -> Result<(), Error> {
        self.prepared(Instant::now() + PREPARATION).await
    }

    /// Creates the missing indexes within the deadline of one call, at most every 10 s. For `/readyz`.
    ///
    /// # Errors
    /// As [`MongoDirectory::prepare`].
    pub async fn check_indexes(&self) -> Result<(), Error> {
        self.prepared(deadline_now()).await
    }

    /// Creates the missing indexes in the background. The creation can take long, and queries return the same results without indexes.
    pub(super) fn restore_indexes(&self) {
        if !self.prepared.is_due() {
            return;
        }
        let this = self.clone();
        tokio::spawn(async move {
            if let Err(error) = this.check_indexes().await {
                tracing::warn!(%error, "failed to create the missing indexes of rooms; the next poll retries");
            }
        });
    }

    async fn prepared(&self, deadline: Instant) -> Result<(), Error> {
        with_deadline(deadline, self.prepared.ensure(self.create_indexes())).await
    }

    async fn create_indexes(&self) -> Result<(), Error> {
        let index = |name: &str, keys| {
            let options = IndexOptions::builder().name(name.to_owned()).build();
            IndexModel::builder().keys(keys).options(options).build()
        };
        let sparse = |name: &str, keys| {
            let options = IndexOptions::builder().name(name.to_owned()).sparse(true).build();
            IndexModel::builder().keys(keys).options(options).build()
        };
        self.restore_guard().await?;
        let indexes = [
            sparse("pending", doc! { "pending": 1 }),
            index("departures", doc! { "departures.key": 1 }),
            index("changed", doc! { "changed": -1 }),
        ];
        let created =
            self.rooms.write(Operation::Index, async |rooms| rooms.create_indexes(indexes).await).await;
        created.map_err(|error| unprepared(COLLECTION, error))?;
        let indexes = [
            index("of_room", doc! { "room": 1, "role": 1 }),
            index("of_user", doc! { "key": 1, "role": 1 }),
            sparse("of_adder", doc! { "by_key": 1 }),
        ];
        let created =
            self.members.write(Operation::Index, async |members| members.create_indexes(indexes).await).await;
        created.map_err(|error| unprepared(super::MEMBERS, error))?;
        let by_rev = index("revs", doc! { "room": 1, "rev": 1 });
        let created = self
            .changes
            .write(Operation::Index, async |changes| changes.create_indexes([by_rev]).await)
            .await;
        created.map(drop).map_err(|error| unprepared(change_log::COLLECTION, error))
    }
}
