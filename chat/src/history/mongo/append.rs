//! Appending without a transaction: a batch is planned from what is stored, inserted in order, and planned again from where
//! somebody else's message was in the way. The unique indexes decide; what was read before is only the plan.
//!
//! Why there is no hole and no double: a plan begins right after a head that a majority has, which nothing can take back, and
//! an ordered insert ends at the first document that is refused. So whenever it arrives, also long after its caller gave up,
//! all it can do is continue a room at its end or do nothing. The primary key, room and number, holds even where the other
//! indexes were dropped.

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

/// How often a batch is planned. Each time somebody else's message was in the way.
const ROUNDS: u32 = 16;

/// How much longer than the last time the next round waits: what was in the way may not be on a majority yet, and until it is
/// it cannot be read.
const PAUSE: Duration = Duration::from_millis(4);

/// What authors have said: the author's key and their own id of it, and what it became.
type Earlier = HashMap<(String, String), Said>;

impl MongoHistory {
    /// Stores `drafts` after `head`, and goes on where the room ends by then when others write in between.
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
            // What authors have said must be as new as the end of the room, else a resend would become a second message. The caller
            // has learned `head` before; a later end is read first.
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

    /// What the authors of `drafts` have said in this room under the same ids.
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

    /// Inserts in order until one is refused because something is there already, and answers how many are stored.
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

    /// How many of these, from the first on, are in their places: a write that was sent twice meets itself.
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

/// The filter for each author's ids in one room. Each branch is one range of the index.
pub(super) fn any_of(room: &RoomName, ids: BTreeMap<String, Vec<&str>>) -> Document {
    let branch =
        |(author, ids)| doc! { "room": room.as_str(), "authorKey": author, "clientId": { "$in": ids } };
    let branches: Vec<Document> = ids.into_iter().map(branch).collect();
    doc! { "$or": branches }
}

/// Which document was refused because there is one of its key; none when it was something else.
fn refused(error: &MongoError) -> Option<usize> {
    let ErrorKind::InsertMany(failed) = &*error.kind else { return None };
    match (failed.write_errors.as_deref(), &failed.write_concern_error) {
        (Some([write]), None) if write.code == DUPLICATE_KEY => Some(write.index),
        // What was inserted before may not be durable.
        _ => None,
    }
}

/// What a batch comes to if nobody writes meanwhile.
struct Plan {
    /// One for each draft.
    outcomes: Vec<Outcome>,
    /// The documents to insert.
    new: Vec<New>,
    /// Which draft each of them is.
    drafts: Vec<usize>,
    /// Where the room ends then.
    head: Head,
}

/// Numbers what is new from `head` on; what was said earlier, also in this batch, takes no number.
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

/// What a draft is whose author has used its id before.
fn again(first: &Said, draft: &Draft) -> Result<Outcome, Error> {
    if first.text != draft.text.as_str() {
        return Ok(Outcome::Conflict);
    }
    Ok(Outcome::Duplicate { id: first.id.clone(), seq: number(first.seq)? })
}
