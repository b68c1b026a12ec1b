//! What happens to the shared log, each one step for Redis. Called by [`super`]. Redis does not undo what a script has written before a
//! command of it is refused, so a script that writes several keys checks its rights on all of them first: a retry would append
//! again. A stream that cannot be appended to is left as it was: the entry is written before the offset. What an offset is, is said in [`crate::redis`].

use std::sync::LazyLock;

use remote::redis::Script;

/// Keys: the epoch, the last offset, the stream, the rooms' last numbers, their last messages. Arguments: the epoch that the
/// writer knows, the room, how many entries to keep, who writes, `1` when a room that is not known here begins with the first of
/// these, which number may be passed over (`*`: all), and then number, id and entry of each message, in order.
///
/// Answers with what became of it, a number and an id: `appended` and the last offset; `behind` and the room's last number, when
/// messages before the first are missing; `held`, the room's last number and the id of that message, when the first is there
/// already and may not be passed over; `unknown`, when nothing is known of the room; `another`, when the log is another one.
pub static APPEND: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r#"
        local epoch, room, keep, node, begins, passed = unpack(ARGV, 1, 6)
        local first = tonumber(ARGV[7])
        local offset = redis.call('GET', KEYS[2])
        if not offset or redis.call('GET', KEYS[1]) ~= epoch then return {'another', '0', ''} end
        local known = redis.call('HGET', KEYS[5], room) or ''
        if redis.acl_check_cmd then
            local writes = {{'xadd', KEYS[3], '1-0', 'node', node}, {'set', KEYS[2], offset}, {'hset', KEYS[4], room, '0'}, {'hset', KEYS[5], room, ''}}
            for _, write in ipairs(writes) do
                if not redis.acl_check_cmd(unpack(write)) then
                    return redis.error_reply(string.format("NOPERM this user has no permissions to run the '%s' command", write[1]))
                end
            end
        end
        local head = tonumber(redis.call('HGET', KEYS[4], room) or '-1')
        if head < 0 then
            if first ~= 1 and begins ~= '1' then return {'unknown', '0', ''} end
            head = first - 1
        end
        local shown = string.format('%.0f', head)
        if first > head + 1 then return {'behind', shown, ''} end
        if first <= head and passed ~= '*' and passed ~= shown then
            local number, id = string.match(known, '^(%d+) (.*)$')
            return {'held', shown, number == shown and id or ''}
        end
        local last
        for i = 7, #ARGV, 3 do
            local seq = tonumber(ARGV[i])
            if seq == head + 1 then
                offset = string.format('%.0f', tonumber(offset) + 1)
                redis.call('XADD', KEYS[3], 'MAXLEN', '~', keep, offset .. '-0', 'node', node, 'entry', ARGV[i + 2])
                redis.call('SET', KEYS[2], offset)
                head, last = seq, ARGV[i + 1]
            end
        end
        if last then
            shown = string.format('%.0f', head)
            redis.call('HSET', KEYS[4], room, shown)
            redis.call('HSET', KEYS[5], room, shown .. ' ' .. last)
        end
        return {'appended', offset, ''}
        "#,
    )
});

/// Keys: the epoch, the last offset, the stream. Arguments: the epoch that the writer knows, how many entries to keep, who writes,
/// the entry. For what has no number. Answers with the offset; with nothing when the log is another one.
pub static TELL: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r#"
        if redis.call('EXISTS', KEYS[2]) == 0 or redis.call('GET', KEYS[1]) ~= ARGV[1] then return false end
        local offset = string.format('%.0f', tonumber(redis.call('GET', KEYS[2])) + 1)
        if redis.acl_check_cmd and not redis.acl_check_cmd('set', KEYS[2], offset) then
            return redis.error_reply("NOPERM this user has no permissions to run the 'set' command")
        end
        redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[2], offset .. '-0', 'node', ARGV[3], 'entry', ARGV[4])
        redis.call('SET', KEYS[2], offset)
        return offset
        "#,
    )
});

/// Keys: the rooms' last numbers, their last messages. Argument: a room. Answers with its last number and the id of that message;
/// with nothing when either is not known.
pub static LAST: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local head = redis.call('HGET', KEYS[1], ARGV[1])
        local number, id = string.match(redis.call('HGET', KEYS[2], ARGV[1]) or '', '^(%d+) (.*)$')
        if not head or number ~= head then return false end
        return {head, id}
        ",
    )
});

/// Keys: the epoch, the last offset, the epoch's first offset, the stream. Arguments: the epoch that an offset is of, the offset,
/// how many entries to answer with at most.
///
/// Answers with the last offset and the entries that came right after the offset; with nothing when the log is another one or
/// has forgotten them.
pub static MISSED: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local epoch, last, base = unpack(redis.call('MGET', KEYS[1], KEYS[2], KEYS[3]))
        local after = tonumber(ARGV[2])
        if epoch ~= ARGV[1] or not last or not base or after < tonumber(base) or after > tonumber(last) then return false end
        if after == tonumber(last) then return {last, {}} end
        local from = string.format('%.0f-0', after + 1)
        local entries = redis.call('XRANGE', KEYS[4], from, '+', 'COUNT', ARGV[3])
        if #entries == 0 or entries[1][1] ~= from then return false end
        local plain = {}
        for _, entry in ipairs(entries) do table.insert(plain, entry[2][4]) end
        return {last, plain}
        ",
    )
});

/// Keys: the last offset, the stream, marks of where the log was when. Argument: how many seconds an entry is kept.
pub static FORGET: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local now = tonumber(redis.call('TIME')[1])
        local old = string.format('%.0f', now - tonumber(ARGV[1]))
        redis.call('ZADD', KEYS[3], now, redis.call('GET', KEYS[1]) or '0')
        local mark = redis.call('ZREVRANGEBYSCORE', KEYS[3], old, '-inf', 'LIMIT', 0, 1)[1]
        if mark then
            redis.call('XTRIM', KEYS[2], 'MINID', mark .. '-0')
            redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', old)
        end
        return mark
        ",
    )
});
