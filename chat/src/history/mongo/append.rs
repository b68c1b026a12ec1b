//! Appends without a transaction. A batch is planned from the stored messages and inserted in order. If another writer's message refuses
//! an insert, the rest of the batch is planned again. Reads only produce the plan. The unique indexes decide.
//!
//! The numbers of a room have no gaps and no duplicates: a plan starts right after a head that is on a majority and so cannot be rolled
//! back, and an ordered insert stops at the first document that is refused. An insert that arrives late, even long after its caller has
//! timed out, therefore either continues the room at its head or has no effect. The primary key, which is room and number, enforces this
//! even if the other indexes were dropped.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use futures_util::{TryStreamExt, future::try_join};
use mongodb::{
    bson::{Document, doc},
    error::{Error as MongoError, ErrorKind},
};
use proto::RoomName;

use super::{
    MongoHistory,
    document::{New, Place, Said},
};
use crate::{
    Error,
    history::{Appended, Draft, Head, Outcome},
    mongo::{DEADLINE, DUPLICATE_KEY, number},
};

/// Maximum number of plans of a batch. Each further plan follows a conflict with another writer.
const ROUNDS: u32 = 16;

/// Increment of the delay between two plans. A conflicting message can be read only after it is on a majority.
const PAUSE: Duration = Duration::from_millis(4);

/// Earlier messages by the author's key and `client_id`.
type Earlier = HashMap<(String, String), Said>;

impl MongoHistory {
    /// Stores `drafts` after `head`. Once the batch has begun it continues at the room's new head if others write in between.
    pub(super) async fn store(
        &self,
        room: &RoomName,
        head: u64,
        drafts: &[Draft],
    ) -> Result<Appended, Error> {
        let mut outcomes = Vec::with_capacity(drafts.len());
        let mut begun = false;
        for round in 0..ROUNDS {
            tokio::time::sleep(PAUSE * round).await;
            let rest = &drafts[outcomes.len()..];
            // The earlier messages must be at least as recent as the head, or a resend would be stored twice. In the first round the
            // caller has read `head` before. In later rounds the head is read before the earlier messages.
            let (end, earlier) = match round {
                0 => try_join(self.end_of(room), self.earlier(room, rest)).await?,
                _ => (self.end_of(room).await?, self.earlier(room, rest).await?),
            };
            if !begun && end.seq != head {
                return Err(Error::Fenced { head: end });
            }
            let plan = plan(room, end, rest, earlier)?;
            let stored = self.insert(&plan.new).await?;
            begun |= stored > 0;
            let Some(refused) = plan.drafts.get(stored) else {
                outcomes.extend(plan.outcomes);
                return Ok(Appended { outcomes, head: plan.head });
            };
            outcomes.extend(plan.outcomes.into_iter().take(*refused));
        }
        Err(Error::Store("others write to the room all the time".to_owned()))
    }

    /// The earlier messages of this room with the author and `client_id` of one of `drafts`.
    async fn earlier(&self, room: &RoomName, drafts: &[Draft]) -> Result<Earlier, Error> {
        let mut ids: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for draft in drafts {
            if let Some(id) = &draft.client_id {
                ids.entry(draft.author.key()).or_default().push(id.as_str());
            }
        }
        if ids.is_empty() {
            return Ok(Earlier::new());
        }
        let messages = self.messages.clone_with_type::<Said>();
        let found = messages.find(any_of(room, ids)).projection(Said::fields()).max_time(DEADLINE);
        let said: Vec<Said> = found.await?.try_collect().await?;
        Ok(said.into_iter().map(|said| ((said.author_key.clone(), said.client_id.clone()), said)).collect())
    }

    /// Inserts in order until a document is refused by a unique index. Returns how many of `new` are stored.
    pub(super) async fn insert(&self, new: &[New]) -> Result<usize, Error> {
        if new.is_empty() {
            return Ok(0);
        }
        match self.new_ones().insert_many(new).ordered(true).await {
            Ok(_) => Ok(new.len()),
            Err(error) => match refused(&error) {
                Some(at) => Ok(at + self.stored_already(&new[at..]).await?),
                None => Err(error.into()),
            },
        }
    }

    /// The number of documents, from the first on, that are already stored with the same id. A write that was retried conflicts with its
    /// own first attempt.
    async fn stored_already(&self, new: &[New]) -> Result<usize, Error> {
        let [first, ..] = new else { return Ok(0) };
        let messages = self.messages.clone_with_type::<Place>();
        let found = messages
            .find(doc! { "room": first.room.as_str(), "seq": { "$gte": first.seq } })
            .sort(doc! { "seq": 1 })
            .limit(i64::try_from(new.len()).unwrap_or(i64::MAX))
            .projection(Place::fields())
            .max_time(DEADLINE);
        let places: Vec<Place> = found.await?.try_collect().await?;
        let same = |(new, place): &(&New, &Place)| new.id == place.id && new.seq == place.seq;
        Ok(new.iter().zip(&places).take_while(same).count())
    }
}

/// The filter for the `client_id`s of each author in one room. Each branch is one range of the index.
pub(super) fn any_of(room: &RoomName, ids: BTreeMap<String, Vec<&str>>) -> Document {
    let branch =
        |(author, ids)| doc! { "room": room.as_str(), "authorKey": author, "clientId": { "$in": ids } };
    let branches: Vec<Document> = ids.into_iter().map(branch).collect();
    doc! { "$or": branches }
}

/// The index of the document that was refused by a unique index. `None` for other errors.
fn refused(error: &MongoError) -> Option<usize> {
    let ErrorKind::InsertMany(failed) = &*error.kind else { return None };
    match (failed.write_errors.as_deref(), &failed.write_concern_error) {
        (Some([write]), None) if write.code == DUPLICATE_KEY => Some(write.index),
        // The documents that were inserted before may not be durable.
        _ => None,
    }
}

/// The result of a batch if no other writer interferes.
struct Plan {
    /// The results of the drafts.
    outcomes: Vec<Outcome>,
    /// The documents to insert.
    new: Vec<New>,
    /// The index of the draft of each document in `new`.
    drafts: Vec<usize>,
    /// The room's head after the batch.
    head: Head,
}

/// Numbers the new messages from `head` on. Resends, also of drafts of this batch, are not assigned a number.
fn plan(room: &RoomName, head: Head, drafts: &[Draft], mut earlier: Earlier) -> Result<Plan, Error> {
    let mut plan = Plan { outcomes: Vec::with_capacity(drafts.len()), new: vec![], drafts: vec![], head };
    let now = sessions::ages::now();
    for (at, draft) in drafts.iter().enumerate() {
        let key = draft.client_id.as_ref().map(|id| (draft.author.key(), id.as_str().to_owned()));
        if let Some(first) = key.as_ref().and_then(|key| earlier.get(key)) {
            plan.outcomes.push(again(first, draft)?);
            continue;
        }
        if draft.text.exceeds().is_some() {
            plan.outcomes.push(Outcome::TooLarge);
            continue;
        }
        let timestamp = draft.timestamp.after(plan.head.timestamp, now);
        plan.head = Head { seq: plan.head.seq + 1, timestamp };
        let new = New::of(draft, room, plan.head);
        if let Some((author_key, client_id)) = key {
            let (id, text) = (draft.id.clone(), draft.text.as_str().to_owned());
            let said = Said { author_key, client_id, id, seq: new.seq, text };
            earlier.insert((said.author_key.clone(), said.client_id.clone()), said);
        }
        plan.outcomes.push(Outcome::Stored { seq: plan.head.seq, offset: None });
        plan.drafts.push(at);
        plan.new.push(new);
    }
    Ok(plan)
}

/// The result of a draft whose author has used its `client_id` before.
fn again(first: &Said, draft: &Draft) -> Result<Outcome, Error> {
    if first.text != draft.text.as_str() {
        return Ok(Outcome::Conflict);
    }
    Ok(Outcome::Duplicate { id: first.id.clone(), seq: number(first.seq)? })
}
