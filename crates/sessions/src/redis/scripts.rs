//! The scripts that change sessions. Each runs atomically in Redis. Called by [`super`].

use std::sync::LazyLock;

use remote::redis::Script;

/// The value of a session between the two steps of its closing: it is closed in Redis, and may not be in the durable list yet.
pub const CLOSED: &str = "closed";

/// Functions of the scripts. `get` and `list` read keys, which other programs can overwrite: a key of another type counts as absent, and
/// `list` deletes it, so that the list can be written again. `check_publish` ends a script before its first change while the roles have no
/// right to publish on the channel: no process would receive the closing, and the sockets of the session would stay. Watchers ignore the
/// empty message.
const FUNCTIONS: &str = r"
    local function is_wrong_type(reply)
        return type(reply) == 'table' and reply.err and string.find(reply.err, 'WRONGTYPE', 1, true)
    end
    local function get(key)
        if is_wrong_type(redis.pcall('GET', key)) then return false end
        return redis.call('GET', key)
    end
    local function list(key)
        if is_wrong_type(redis.pcall('LRANGE', key, 0, 0)) then redis.call('DEL', key) end
        return redis.call('LRANGE', key, 0, -1)
    end
    local function check_publish(channel)
        redis.call('PUBLISH', channel, '')
    end
";

/// A script that can use the functions of [`FUNCTIONS`].
fn script(code: &str) -> Script {
    Script::new(&format!("{FUNCTIONS}{code}"))
}

/// Reads a list. Key: the list. Returns its elements.
pub static LIST: LazyLock<Script> = LazyLock::new(|| script("return list(KEYS[1])"));

/// Reads the value of a session and the list of its successors. Keys: both.
pub static WITH_SUCCESSORS: LazyLock<Script> =
    LazyLock::new(|| script("return {get(KEYS[1]), list(KEYS[2])}"));

/// Reads the value of a session. Key: the session.
pub static GET: LazyLock<Script> = LazyLock::new(|| script("return get(KEYS[1])"));

/// Opens a session.
///
/// Keys: the session, the list of its user, the sessions that it replaces. Arguments: the value of the session, its id, the time and
/// the lifetime (both in milliseconds), the maximum number of sessions per user, the channel of closings, the prefix of the keys of
/// sessions, the prefix of the keys of the lists of successors, the prefix of evicted sessions in the channel, the ids of the replaced
/// sessions.
///
/// The entries of the list are `issued:id`. Entries of expired or closed sessions are removed. When the user has too many sessions,
/// the oldest are removed, except the replaced ones. Returns the ids of the removed and of the replaced sessions.
pub static OPEN: LazyLock<Script> = LazyLock::new(|| {
    script(
        r"
        local value, id, now, lifetime, most, channel, sessions, successors, evicted = unpack(ARGV)
        local live, closed, replaced, spared = {}, {}, {}, 0
        for i = 3, #KEYS do
            local other, was = ARGV[i + 7], get(KEYS[i])
            if was and was ~= 'closed' then
                replaced[other] = true
                list(successors .. other)
                redis.call('RPUSH', successors .. other, id)
                redis.call('LTRIM', successors .. other, -16, -1)
                redis.call('PEXPIRE', successors .. other, lifetime)
            end
            if was then
                table.insert(closed, other)
            end
        end
        for _, entry in ipairs(list(KEYS[2])) do
            local issued, other = string.match(entry, '^(%d+):(%x+)$')
            local ends = (tonumber(issued) or 0) + tonumber(lifetime)
            local kept = other and ends > tonumber(now) and get(sessions .. other)
            if kept and kept ~= 'closed' then
                table.insert(live, entry)
                if replaced[other] then spared = spared + 1 end
            end
        end
        if #live - spared >= tonumber(most) then check_publish(channel) end
        local at = 1
        while #live - spared >= tonumber(most) do
            local other = string.match(live[at], ':(%x+)$')
            if replaced[other] then
                at = at + 1
            else
                table.remove(live, at)
                redis.call('DEL', sessions .. other)
                redis.call('PUBLISH', channel, evicted .. other)
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

/// Marks sessions as superseded, and publishes a closing of each session that was live and not marked.
///
/// Keys: the sessions. Arguments: the channel of closings, the prefix of replaced sessions in it, the ids of the sessions.
pub static SUPERSEDE: LazyLock<Script> = LazyLock::new(|| {
    script(
        r#"
        check_publish(ARGV[1])
        for i, session in ipairs(KEYS) do
            local value = get(session)
            if value and value ~= 'closed' and not string.find(value, '"superseded":true', 1, true) then
                redis.call('SET', session, (string.gsub(value, '}$', ',"superseded":true}')), 'KEEPTTL')
                redis.call('PUBLISH', ARGV[1], ARGV[2] .. ARGV[i + 2])
                redis.call('PUBLISH', ARGV[1], ARGV[i + 2])
            end
        end
        "#,
    )
});

/// Writes the value of a used session and removes the sessions that it replaces, unless its value has changed in the meantime.
///
/// Keys: the session, the sessions that it replaces. Arguments: its current value, its new value, the channel of closings, the prefix
/// of replaced sessions in it, the ids of the replaced sessions.
pub static CLOSE_REPLACED: LazyLock<Script> = LazyLock::new(|| {
    script(
        r"
        if get(KEYS[1]) ~= ARGV[1] then return end
        check_publish(ARGV[3])
        redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL')
        for i = 2, #KEYS do
            local value = get(KEYS[i])
            redis.call('DEL', KEYS[i])
            if value and value ~= 'closed' then
                redis.call('PUBLISH', ARGV[3], ARGV[4] .. ARGV[i + 3])
                redis.call('PUBLISH', ARGV[3], ARGV[i + 3])
            end
        end
        ",
    )
});

/// Replaces the value of a live session by [`CLOSED`] and publishes its closing. Returns the previous value.
///
/// Key: the session. Arguments: its id, the channel of closings.
pub static CLOSE: LazyLock<Script> = LazyLock::new(|| {
    script(
        r"
        local value = get(KEYS[1])
        if value and value ~= 'closed' then
            check_publish(ARGV[2])
            redis.call('SET', KEYS[1], 'closed', 'KEEPTTL')
            redis.call('PUBLISH', ARGV[2], ARGV[1])
        end
        return value
        ",
    )
});

/// Removes a session, and publishes its closing unless its value was [`CLOSED`]. Returns the previous value.
///
/// Key: the session. Arguments: its id, the channel of closings.
pub static REMOVE: LazyLock<Script> = LazyLock::new(|| {
    script(
        r"
        local value = get(KEYS[1])
        if value and value ~= 'closed' then check_publish(ARGV[2]) end
        redis.call('DEL', KEYS[1])
        if value and value ~= 'closed' then redis.call('PUBLISH', ARGV[2], ARGV[1]) end
        return value
        ",
    )
});

/// Removes the sessions that exist and publishes their closings. Returns their number.
///
/// Keys: revoked sessions. Arguments: the channel of closings, the ids of the sessions.
pub static REVOKE_ALL: LazyLock<Script> = LazyLock::new(|| {
    script(
        r"
        local removed = 0
        check_publish(ARGV[1])
        for i, session in ipairs(KEYS) do
            if redis.call('DEL', session) == 1 then
                redis.call('PUBLISH', ARGV[1], ARGV[i + 1])
                removed = removed + 1
            end
        end
        return removed
        ",
    )
});
