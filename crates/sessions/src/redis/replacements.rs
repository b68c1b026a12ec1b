//! Sessions that replace others. `replaces` in the value of the new session names the old ones until its first use.
//! `session-successors:<id>` lists the new sessions of an old one, so that a logout finds them. Called by [`super`].

use proto::Username;

use super::{EVICTED, LIFETIME_MILLIS, REPLACED, RedisSessions, StoredSession, scripts, unavailable};
use crate::{Error, PER_USER, SessionId, Token};

/// The maximum number of sessions that one logout closes because they replace each other.
const MAX_RELATED: usize = 64;

impl RedisSessions {
    /// Implements [`crate::Sessions::replace`]. The old sessions are added to the durable list here, because the process that handles
    /// the first use of the new session does not write the list. So a Redis that restarts before the first use closes them earlier.
    pub(super) async fn open_replacing(&self, user: &Username, old: &[Token]) -> Result<Token, Error> {
        let token = Token::generate()?;
        let now = (self.clock)().0;
        let old: Vec<SessionId> = old.iter().map(Token::id).collect();
        let replaces = old.iter().map(SessionId::to_string).collect();
        let stored =
            StoredSession { username: user.to_string(), issued_at: now, replaces, superseded: false };
        let value = serde_json::to_string(&stored).map_err(unavailable)?;
        let mut script = scripts::OPEN.prepare_invoke();
        script.key(self.names.session(&token.id())).key(self.names.sessions_of(user));
        script.arg(value).arg(token.id().as_str()).arg(now).arg(LIFETIME_MILLIS).arg(PER_USER);
        script.arg(&self.names.channel).arg(&self.names.sessions).arg(&self.names.successors).arg(EVICTED);
        for id in &old {
            script.key(self.names.session(id)).arg(id.as_str());
        }
        let response = self.redis.ask(async |mut redis| script.invoke_async(&mut redis).await).await;
        let closed: Vec<String> = response.map_err(unavailable)?;
        let closed: Vec<SessionId> = closed.iter().filter_map(|id| id.parse().ok()).collect();
        if let Some(writer) = self.writer.as_ref().filter(|_| !closed.is_empty())
            && let Err(error) = writer.add(closed).await
        {
            // The client never receives this token. If the new session cannot be closed either, it expires.
            let _ = self.revoke(token.id()).await;
            return Err(error);
        }
        Ok(token)
    }

    /// Implements [`crate::Sessions::supersede`].
    pub(super) async fn supersede_replaced(&self, new: &SessionId) -> Result<(), Error> {
        let Some((_, stored, _)) = self.stored(new).await? else { return Ok(()) };
        let mut script = scripts::SUPERSEDE.prepare_invoke();
        script.arg(&self.names.channel).arg(REPLACED);
        for id in stored.replaces.iter().filter_map(|id| id.parse().ok()) {
            script.key(self.names.session(&id)).arg(id.as_str());
        }
        self.redis.ask(async |mut redis| script.invoke_async(&mut redis).await).await.map_err(unavailable)
    }

    /// Closes the sessions that `new` replaces, at its first use. `stored` is its parsed value, and `value` the raw one.
    pub(super) async fn close_replaced(
        &self,
        new: &SessionId,
        stored: StoredSession,
        value: &[u8],
    ) -> Result<(), Error> {
        let used = StoredSession { replaces: Vec::new(), ..stored.clone() };
        let used = serde_json::to_string(&used).map_err(unavailable)?;
        let mut script = scripts::CLOSE_REPLACED.prepare_invoke();
        script.key(self.names.session(new));
        script.arg(value).arg(used).arg(&self.names.channel).arg(REPLACED);
        for id in stored.replaces.iter().filter_map(|id| id.parse().ok()) {
            script.key(self.names.session(&id)).arg(id.as_str());
        }
        self.redis.ask(async |mut redis| script.invoke_async(&mut redis).await).await.map_err(unavailable)
    }

    /// The sessions that replace `id` or are replaced by it, directly or transitively, while the new ones are unused. At most
    /// [`MAX_RELATED`], `id` included.
    pub(super) async fn related(&self, id: &SessionId) -> Result<Vec<SessionId>, Error> {
        let mut related = vec![id.clone()];
        let mut at = 0;
        while let Some(id) = related.get(at).cloned().filter(|_| related.len() < MAX_RELATED) {
            at += 1;
            for other in self.neighbours(&id).await? {
                if !related.contains(&other) && related.len() < MAX_RELATED {
                    related.push(other);
                }
            }
        }
        related.remove(0);
        Ok(related)
    }

    async fn neighbours(&self, id: &SessionId) -> Result<Vec<SessionId>, Error> {
        let (key, successors) = (self.names.session(id), self.names.successors(id));
        let mut script = scripts::WITH_SUCCESSORS.prepare_invoke();
        script.key(key).key(successors);
        let request = self.redis.ask(async |mut redis| script.invoke_async(&mut redis).await);
        let (value, successors): (Option<Vec<u8>>, Vec<Vec<u8>>) = request.await.map_err(unavailable)?;
        let successors = successors.iter().filter_map(|id| std::str::from_utf8(id).ok()?.parse().ok());
        let successors: Vec<SessionId> = successors.collect();
        let stored = value.and_then(|value| Some(self.parse(id, &value)?.1));
        let mut neighbours: Vec<SessionId> =
            stored.iter().flat_map(|stored| &stored.replaces).filter_map(|id| id.parse().ok()).collect();
        for new in successors {
            let mut script = scripts::GET.prepare_invoke();
            script.key(self.names.session(&new));
            let request = self.redis.ask(async |mut redis| script.invoke_async(&mut redis).await);
            let value: Option<Vec<u8>> = request.await.map_err(unavailable)?;
            let stored = value.and_then(|value| Some(self.parse(&new, &value)?.1));
            if stored.is_some_and(|stored| stored.replaces.iter().any(|old| old == id.as_str())) {
                neighbours.push(new);
            }
        }
        Ok(neighbours)
    }
}
