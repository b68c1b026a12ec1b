//! What happens to the shared log, each one step for Redis. Called by [`super`]. What an offset is, is said in [`crate::redis`].

use std::sync::LazyLock;

use remote::redis::Script;

/// Keys: the last offset, the stream, the rooms' last numbers. Arguments: the room, how many entries to keep, who writes, `1`
/// when a room that is not known here begins with the first of these, and then number and entry of each message, in order.
///
/// Answers with what became of it and a number: `appended` and the last offset; `behind` and the room's last number, when
/// messages before the first are missing; `unknown`, when nothing is known of the room. What is there already is left out.
pub static APPEND: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local room, keep, node, begins = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
        local first = tonumber(ARGV[5])
        local head = tonumber(redis.call('HGET', KEYS[3], room) or '-1')
        if head < 0 then
            if first ~= 1 and begins ~= '1' then return {'unknown', '0'} end
            head = first - 1
        end
        if first > head + 1 then return {'behind', string.format('%.0f', head)} end
        local offset = redis.call('GET', KEYS[1])
        for i = 5, #ARGV, 2 do
            local seq = tonumber(ARGV[i])
            if seq == head + 1 then
                offset = string.format('%.0f', redis.call('INCR', KEYS[1]))
                redis.call('XADD', KEYS[2], 'MAXLEN', '~', keep, offset .. '-0', 'node', node, 'entry', ARGV[i + 1])
                head = seq
            end
        end
        redis.call('HSET', KEYS[3], room, string.format('%.0f', head))
        return {'appended', offset}
        ",
    )
});

/// Keys: the last offset, the stream. Arguments: how many entries to keep, who writes, the entry. For what has no number.
pub static TELL: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local offset = string.format('%.0f', redis.call('INCR', KEYS[1]))
        redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[1], offset .. '-0', 'node', ARGV[2], 'entry', ARGV[3])
        return offset
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
        if epoch ~= ARGV[1] or after < tonumber(base) or after > tonumber(last) then return false end
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
