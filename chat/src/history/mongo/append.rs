//! Appends without a transaction. A batch is planned from the stored messages and inserted in order. If another writer's message refuses
//! an insert, the rest of the batch is planned again. Reads only produce the plan. The unique indexes decide.
//!
//! The numbers of a room have no gaps and no duplicates: a plan starts right after a head that is on a majority and so cannot be rolled
//! back, and an ordered insert stops at the first document that is refused. An insert that arrives late, even long after its caller has
//! timed out, therefore either continues the room at its head or has no effect.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use futures_util::{TryStreamExt, future::try_join};
use mongodb::{
    bson::{Document, doc},
    error::{Error as MongoError, ErrorKind},
};
use proto::{RoomName, Timestamp};
use remote::mongo::is_duplicate;

use super::{
    MongoHistory,
    document::{IdAndSeq, NewMessage, PriorMessage},
};
use crate::{
    Error,
    history::{Appended, Draft, Outcome, RoomHead},
    mongo::{DEADLINE, number},
};

/// Maximum number of plans of a batch. Each further plan follows a conflict with another writer.
const MAX_PLANS: u32 = 16;

/// Increment of the delay between two plans. A conflicting message can be read only after it is on a majority.
const BACKOFF_STEP: Duration = Duration::from_millis(4);

/// Earlier messages by the author's key and `client_id`.
type PriorMessages = HashMap<(String, String), PriorMessage>;

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
        for round in 0..MAX_PLANS {
            tokio::time::sleep(BACKOFF_STEP * round).await;
            let remaining = &drafts[outcomes.len()..];
            // The earlier messages must be at least as recent as the head, or a resend would be stored twice. In the first round the
            // caller has read `head` before. In later rounds the head is read before the earlier messages.
            let (end, prior) = match round {
                0 => try_join(self.head_of(room), self.find_prior(room, remaining)).await?,
                _ => (self.head_of(room).await?, self.find_prior(room, remaining).await?),
            };
            if !begun && end.seq != head {
                return Err(Error::Fenced { head: end });
            }
            let plan = plan(room, end, remaining, prior)?;
            let stored = self.insert(&plan.new).await?;
            begun |= stored > 0;
            let Some(refused) = plan.drafts.get(stored) else {
                outcomes.extend(plan.outcomes);
                return Ok(Appended { outcomes, head: plan.head });
            };
            outcomes.extend(plan.outcomes.into_iter().take(*refused));
        }
        Err(Error::Store("other nodes write to the room continuously".to_owned()))
    }

    /// The earlier messages of this room with the author and `client_id` of one of `drafts`.
    async fn find_prior(&self, room: &RoomName, drafts: &[Draft]) -> Result<PriorMessages, Error> {
        let mut ids: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for draft in drafts {
            if let Some(id) = &draft.client_id {
                ids.entry(draft.author.key()).or_default().push(id.as_str());
            }
        }
        if ids.is_empty() {
            return Ok(PriorMessages::new());
        }
        let messages = self.messages.clone_with_type::<PriorMessage>();
        let found =
            messages.find(resend_filter(room, ids)).projection(PriorMessage::fields()).max_time(DEADLINE);
        let found: Vec<PriorMessage> = found.await?.try_collect().await?;
        Ok(found
            .into_iter()
            .map(|found| ((found.author_key.clone(), found.client_id.clone()), found))
            .collect())
    }

    /// Inserts in order until a document is refused by a unique index. Returns how many of `new` are stored.
    pub(super) async fn insert(&self, new: &[NewMessage]) -> Result<usize, Error> {
        if new.is_empty() {
            return Ok(0);
        }
        let messages = self.new_messages();
        let insert = messages.insert_many(new).ordered(true);
        match insert.await {
            Ok(_) => Ok(new.len()),
            Err(error) => match refused_position(&error).filter(|_| is_duplicate(&error)) {
                Some(at) => Ok(at + self.count_stored(&new[at..]).await?),
                None => Err(error.into()),
            },
        }
    }

    /// The number of documents, from the first on, that are already stored with the same id. A write that was retried conflicts with its
    /// own first attempt.
    async fn count_stored(&self, new: &[NewMessage]) -> Result<usize, Error> {
        let [first, ..] = new else { return Ok(0) };
        let messages = self.messages.clone_with_type::<IdAndSeq>();
        let found = messages
            .find(doc! { "room": first.room.as_str(), "seq": { "$gte": first.seq } })
            .sort(doc! { "seq": 1 })
            .limit(i64::try_from(new.len()).unwrap_or(i64::MAX))
            .projection(IdAndSeq::fields())
            .max_time(DEADLINE);
        let stored: Vec<IdAndSeq> = found.await?.try_collect().await?;
        let same = |(new, stored): &(&NewMessage, &IdAndSeq)| new.id == stored.id && new.seq == stored.seq;
        Ok(new.iter().zip(&stored).take_while(same).count())
    }
}

/// The filter for the `client_id`s of each author in one room. Each branch is one range of the index.
pub(super) fn resend_filter(room: &RoomName, ids: BTreeMap<String, Vec<&str>>) -> Document {
    let branch =
        |(author, ids)| doc! { "room": room.as_str(), "authorKey": author, "clientId": { "$in": ids } };
    let branches: Vec<Document> = ids.into_iter().map(branch).collect();
    doc! { "$or": branches }
}

/// The position of the one document that was refused. `None` for other errors.
fn refused_position(error: &MongoError) -> Option<usize> {
    let ErrorKind::InsertMany(failed) = &*error.kind else { return None };
    match (failed.write_errors.as_deref(), &failed.write_concern_error) {
        (Some([write]), None) => Some(write.index),
        // The documents that were inserted before may not be durable.
        _ => None,
    }
}

/// The result of a batch if no other writer interferes.
struct Plan {
    /// The results of the drafts.
    outcomes: Vec<Outcome>,
    /// The documents to insert.
    new: Vec<NewMessage>,
    /// The index of the draft of each document in `new`.
    drafts: Vec<usize>,
    /// The room's head after the batch.
    head: RoomHead,
}

/// Numbers the new messages from `head` on. Resends, also of drafts of this batch, are not assigned a number.
fn plan(room: &RoomName, head: RoomHead, drafts: &[Draft], mut prior: PriorMessages) -> Result<Plan, Error> {
    let mut plan = Plan { outcomes: Vec::with_capacity(drafts.len()), new: vec![], drafts: vec![], head };
    let now = Timestamp::now();
    for (at, draft) in drafts.iter().enumerate() {
        let key = draft.client_id.as_ref().map(|id| (draft.author.key(), id.as_str().to_owned()));
        if let Some(first) = key.as_ref().and_then(|key| prior.get(key)) {
            plan.outcomes.push(resend_outcome(first, draft)?);
            continue;
        }
        let timestamp = draft.timestamp.after(plan.head.timestamp, now);
        plan.head = RoomHead { seq: plan.head.seq + 1, timestamp };
        let new = NewMessage::of(draft, room, plan.head);
        if let Some((author_key, client_id)) = key {
            let (id, text) = (draft.id.clone(), draft.text.as_str().to_owned());
            let found = PriorMessage { author_key, client_id, id, seq: new.seq, text };
            prior.insert((found.author_key.clone(), found.client_id.clone()), found);
        }
        plan.outcomes.push(Outcome::Stored { seq: plan.head.seq, offset: None });
        plan.drafts.push(at);
        plan.new.push(new);
    }
    Ok(plan)
}

/// The result of a draft whose author has used its `client_id` before.
fn resend_outcome(first: &PriorMessage, draft: &Draft) -> Result<Outcome, Error> {
    if first.text != draft.text.as_str() {
        return Ok(Outcome::Conflict);
    }
    Ok(Outcome::Duplicate { id: first.id.clone(), seq: number(first.seq)? })
}
