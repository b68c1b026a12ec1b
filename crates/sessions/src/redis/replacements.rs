//! Sessions that replace others: `replaces` in the value of the new one names those until its first use, and
//! `session-successors:<id>` lists for an old one the new ones, so that a logout finds them. Called by [`super`].

use proto::Username;
use remote::redis::AsyncCommands;

use super::{EVICTED, Kept, LIFETIME_MILLIS, REPLACED, RedisSessions, scripts, unavailable};
use crate::{Error, PER_USER, SessionId, Token};

/// The most sessions that one logout closes because they replace each other.
const RELATED: usize = 64;

impl RedisSessions {
    /// See [`crate::Sessions::replace`]. The durable list has the old sessions from now on, because whoever uses the new one first
    /// does not write it. A Redis that was started again, and is told of the list, closes them before that.
    pub(super) async fn open_in_place(&self, user: &Username, old: &[Token]) -> Result<Token, Error> {
        let token = Token::generate()?;
        let now = (self.clock)().0;
        let old: Vec<SessionId> = old.iter().map(Token::id).collect();
        let replaces = old.iter().map(SessionId::to_string).collect();
        let kept = Kept { username: user.to_string(), issued_at: now, replaces, superseded: false };
        let value = serde_json::to_string(&kept).map_err(unavailable)?;
        let mut script = scripts::OPEN.prepare_invoke();
        script.key(self.names.session(&token.id())).key(self.names.sessions_of(user));
        script.arg(value).arg(token.id().as_str()).arg(now).arg(LIFETIME_MILLIS).arg(PER_USER);
        script.arg(&self.names.channel).arg(&self.names.sessions).arg(&self.names.successors).arg(EVICTED);
        for id in &old {
            script.key(self.names.session(id)).arg(id.as_str());
        }
        let asked = self.redis.ask(async |mut redis| script.invoke_async(&mut redis).await).await;
        let closed: Vec<String> = asked.map_err(unavailable)?;
        let closed: Vec<SessionId> = closed.iter().filter_map(|id| id.parse().ok()).collect();
        if let Some(writer) = self.writer.as_ref().filter(|_| !closed.is_empty())
            && let Err(error) = writer.add(closed).await
        {
            // Its client never gets this token. What cannot be closed either ends by age.
            let _ = self.end(token.id()).await;
            return Err(error);
        }
        Ok(token)
    }

    /// See [`crate::Sessions::supersede`].
    pub(super) async fn supersede_by(&self, new: &SessionId) -> Result<(), Error> {
        let Some((_, kept, _)) = self.kept(new).await? else { return Ok(()) };
        let mut script = scripts::SUPERSEDE.prepare_invoke();
        script.arg(&self.names.channel).arg(REPLACED);
        for id in kept.replaces.iter().filter_map(|id| id.parse().ok()) {
            script.key(self.names.session(&id)).arg(id.as_str());
        }
        self.redis.ask(async |mut redis| script.invoke_async(&mut redis).await).await.map_err(unavailable)
    }

    /// The first use of `new`, of which `kept` is kept as `value`: what it replaces is closed.
    pub(super) async fn settle(&self, new: &SessionId, kept: Kept, value: &[u8]) -> Result<(), Error> {
        let used = Kept { replaces: Vec::new(), ..kept.clone() };
        let used = serde_json::to_string(&used).map_err(unavailable)?;
        let mut script = scripts::SETTLE.prepare_invoke();
        script.key(self.names.session(new));
        script.arg(value).arg(used).arg(&self.names.channel).arg(REPLACED);
        for id in kept.replaces.iter().filter_map(|id| id.parse().ok()) {
            script.key(self.names.session(&id)).arg(id.as_str());
        }
        self.redis.ask(async |mut redis| script.invoke_async(&mut redis).await).await.map_err(unavailable)
    }

    /// The sessions that replace `id`, or are replaced by it, directly or through others, as far as the new ones are unused.
    pub(super) async fn related(&self, id: &SessionId) -> Result<Vec<SessionId>, Error> {
        let mut related = vec![id.clone()];
        let mut at = 0;
        while let Some(id) = related.get(at).cloned().filter(|_| related.len() < RELATED) {
            at += 1;
            for other in self.neighbours(&id).await? {
                if !related.contains(&other) && related.len() < RELATED {
                    related.push(other);
                }
            }
        }
        related.remove(0);
        Ok(related)
    }

    async fn neighbours(&self, id: &SessionId) -> Result<Vec<SessionId>, Error> {
        let (key, successors) = (self.names.session(id), self.names.successors(id));
        let asked = self.redis.ask(async |mut redis| {
            let mut pipe = remote::redis::pipe();
            pipe.get(&key).lrange(&successors, 0, -1);
            pipe.query_async::<(Option<Vec<u8>>, Vec<String>)>(&mut redis).await
        });
        let (value, successors) = asked.await.map_err(unavailable)?;
        let kept = value.and_then(|value| Some(self.read(id, &value)?.1));
        let mut neighbours: Vec<SessionId> =
            kept.iter().flat_map(|kept| &kept.replaces).filter_map(|id| id.parse().ok()).collect();
        for new in successors.iter().filter_map(|id| id.parse::<SessionId>().ok()) {
            let key = self.names.session(&new);
            let value: Option<Vec<u8>> =
                self.redis.ask(async |mut redis| redis.get(key).await).await.map_err(unavailable)?;
            let kept = value.and_then(|value| Some(self.read(&new, &value)?.1));
            if kept.is_some_and(|kept| kept.replaces.iter().any(|old| old == id.as_str())) {
                neighbours.push(new);
            }
        }
        Ok(neighbours)
    }
}
