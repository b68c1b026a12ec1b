//! The changes of sessions, each one step for Redis. Called by [`super`].

use std::sync::LazyLock;

use remote::redis::Script;

/// What a session is between two steps of its closing: Redis has closed it, the durable list may not yet have it.
pub const CLOSED: &str = "closed";

/// Keys: the session, its user's list, the sessions that it replaces. Arguments: the session's value, its id, the time, the
/// lifetime (both in milliseconds), how many sessions a user may have, the channel of closings, the start of the key of every session,
/// that of every list of successors, the prefix of removed ones in the channel, the ids of the replaced ones. The list's entries are `issued:id`; those that are over leave it. The
/// oldest of too many are removed, but none that is replaced. The answer names those removed and those replaced.
pub static OPEN: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local value, id, now, lifetime, most, channel, sessions, successors, crowded = unpack(ARGV)
        local live, closed, replaced, spared = {}, {}, {}, 0
        for i = 3, #KEYS do
            local other, was = ARGV[i + 7], redis.call('GET', KEYS[i])
            if was and was ~= 'closed' then
                replaced[other] = true
                redis.call('RPUSH', successors .. other, id)
                redis.call('LTRIM', successors .. other, -16, -1)
                redis.call('PEXPIRE', successors .. other, lifetime)
            end
            if was then
                table.insert(closed, other)
            end
        end
        for _, entry in ipairs(redis.call('LRANGE', KEYS[2], 0, -1)) do
            local issued, other = string.match(entry, '^(%d+):(%x+)$')
            local ends = (tonumber(issued) or 0) + tonumber(lifetime)
            local kept = other and ends > tonumber(now) and redis.call('GET', sessions .. other)
            if kept and kept ~= 'closed' then
                table.insert(live, entry)
                if replaced[other] then spared = spared + 1 end
            end
        end
        local at = 1
        while #live - spared >= tonumber(most) do
            local other = string.match(live[at], ':(%x+)$')
            if replaced[other] then
                at = at + 1
            else
                table.remove(live, at)
                redis.call('DEL', sessions .. other)
                redis.call('PUBLISH', channel, crowded .. other)
                redis.call('PUBLISH', channel, other)
                table.insert(closed, other)
            end
        end
        table.insert(live, now .. ':' .. id)
        redis.call('SET', KEYS[1], value, 'PX', lifetime)
        redis.call('DEL', KEYS[2])
        redis.call('RPUSH', KEYS[2], unpack(live))
        redis.call('PEXPIRE', KEYS[2], lifetime)
        return closed
        ",
    )
});

/// Keys: sessions. Arguments: the channel of closings, the prefix of replaced ones in it, the sessions' ids. Marks those that are live and
/// not marked, and publishes that.
pub static SUPERSEDE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r#"
        for i, session in ipairs(KEYS) do
            local value = redis.call('GET', session)
            if value and value ~= 'closed' and not string.find(value, '"superseded":true', 1, true) then
                redis.call('SET', session, (string.gsub(value, '}$', ',"superseded":true}')), 'KEEPTTL')
                redis.call('PUBLISH', ARGV[1], ARGV[2] .. ARGV[i + 2])
                redis.call('PUBLISH', ARGV[1], ARGV[i + 2])
            end
        end
        "#,
    )
});

/// Keys: a session, those that it replaces. Arguments: its value, its next value, the channel of closings, the prefix of replaced ones in
/// it, the ids of those. Writes the next value and removes the others, unless the value is another one by now.
pub static SETTLE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        if redis.call('GET', KEYS[1]) ~= ARGV[1] then return end
        redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL')
        for i = 2, #KEYS do
            local value = redis.call('GET', KEYS[i])
            redis.call('DEL', KEYS[i])
            if value and value ~= 'closed' then
                redis.call('PUBLISH', ARGV[3], ARGV[4] .. ARGV[i + 3])
                redis.call('PUBLISH', ARGV[3], ARGV[i + 3])
            end
        end
        ",
    )
});

/// Key: the session. Arguments: its id, the channel of closings. Answers with the value that was there, and leaves [`CLOSED`].
pub static CLOSE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local value = redis.call('GET', KEYS[1])
        if value and value ~= 'closed' then
            redis.call('SET', KEYS[1], 'closed', 'KEEPTTL')
            redis.call('PUBLISH', ARGV[2], ARGV[1])
        end
        return value
        ",
    )
});

/// Key: the session. Arguments: its id, the channel of closings. Removes it, publishes that unless it was closed before, and
/// answers with the value that was there.
pub static REMOVE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local value = redis.call('GET', KEYS[1])
        redis.call('DEL', KEYS[1])
        if value and value ~= 'closed' then redis.call('PUBLISH', ARGV[2], ARGV[1]) end
        return value
        ",
    )
});

/// Keys: sessions that are closed. Arguments: the channel of closings, the sessions' ids. Answers how many were there.
pub static REVOKE_ALL: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local there = 0
        for i, session in ipairs(KEYS) do
            if redis.call('DEL', session) == 1 then
                redis.call('PUBLISH', ARGV[1], ARGV[i + 1])
                there = there + 1
            end
        end
        return there
        ",
    )
});
