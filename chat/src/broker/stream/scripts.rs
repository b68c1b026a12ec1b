//! The operations on the stream, as scripts that Redis executes atomically. Called by [`super`]. [`crate::redis`] defines offsets.

use std::sync::LazyLock;

use remote::redis::Script;

/// Appends messages of one room. Those that the stream has already are skipped.
///
/// Keys: the epoch, the last offset, the stream, the rooms' last `seq`s. Arguments: the epoch of the writer, the room, the number of
/// records to keep, the node, `1` when a room that is absent begins with the first of these messages, and then `seq` and record of each
/// message, in order.
///
/// Returns an outcome and a number:
/// - `appended` and the last offset;
/// - `gap` and the room's last `seq`, when messages before the first one are missing;
/// - `unknown`, when the room is absent;
/// - `epoch_changed`, when the stream has another epoch.
pub static APPEND: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local epoch, room, keep, node, begins = unpack(ARGV, 1, 5)
        local first = tonumber(ARGV[6])
        local current, offset = unpack(redis.call('MGET', KEYS[1], KEYS[2]))
        if current ~= epoch or not offset then return {'epoch_changed', '0'} end
        local head = tonumber(redis.call('HGET', KEYS[4], room) or nil)
        if not head then
            if begins ~= '1' then return {'unknown', '0'} end
            head = first - 1
        end
        if first > head + 1 then return {'gap', string.format('%.0f', head)} end
        local has_new = false
        for i = 6, #ARGV, 2 do
            if tonumber(ARGV[i]) == head + 1 then
                offset = string.format('%.0f', tonumber(offset) + 1)
                redis.call('XADD', KEYS[3], 'MAXLEN', '~', keep, offset .. '-0', 'node', node, 'entry', ARGV[i + 1])
                head, has_new = head + 1, true
            end
        end
        if has_new then
            redis.call('SET', KEYS[2], offset)
            redis.call('HSET', KEYS[4], room, string.format('%.0f', head))
        end
        return {'appended', offset}
        ",
    )
});

/// Appends a record without a `seq`. The records of the changes of one room are in the order of their numbers.
///
/// Keys: the epoch, the last offset, the stream, the rooms' last changes. Arguments: the epoch of the writer, the number of records
/// to keep, the node, the record, the room and the number of a change, or two empty texts, and `1` if the order is not checked.
///
/// Returns an outcome and a number:
/// - `appended` and the last offset, even when the stream has this change of the room or a later one;
/// - `gap` and the room's last change that has a record (nil if there is no number), when changes before this one have no record;
/// - `epoch_changed`, when the stream has another epoch.
pub static ANNOUNCE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local current, offset = unpack(redis.call('MGET', KEYS[1], KEYS[2]))
        if current ~= ARGV[1] or not offset then return {'epoch_changed', false} end
        local room, rev = ARGV[5], tonumber(ARGV[6])
        if rev then
            local recorded = redis.call('HGET', KEYS[4], room)
            if recorded and rev <= tonumber(recorded) then return {'appended', offset} end
            if ARGV[7] ~= '1' and rev > tonumber(recorded or 0) + 1 then return {'gap', recorded} end
        end
        offset = string.format('%.0f', tonumber(offset) + 1)
        redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[2], offset .. '-0', 'node', ARGV[3], 'entry', ARGV[4])
        redis.call('SET', KEYS[2], offset)
        if rev then redis.call('HSET', KEYS[4], room, ARGV[6]) end
        return {'appended', offset}
        ",
    )
});

/// Reads the records after an offset.
///
/// Keys: the epoch, the last offset, the epoch's first offset, the stream. Arguments: the epoch of the offset, the offset, the maximum
/// number of records.
///
/// Returns the last offset and the records that directly follow the given offset, or nil when the stream has another epoch or these
/// records were trimmed.
pub static MISSED: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local epoch, offset, base = unpack(redis.call('MGET', KEYS[1], KEYS[2], KEYS[3]))
        local after = tonumber(ARGV[2])
        if epoch ~= ARGV[1] or not offset or after < tonumber(base) or after > tonumber(offset) then return false end
        if after == tonumber(offset) then return {offset, {}} end
        local from = string.format('%.0f-0', after + 1)
        local entries = redis.call('XRANGE', KEYS[4], from, '+', 'COUNT', ARGV[3])
        if #entries == 0 then return false end
        local records = {}
        for index, entry in ipairs(entries) do
            if entry[1] ~= string.format('%.0f-0', after + index) then return false end
            table.insert(records, entry[2][4])
        end
        return {offset, records}
        ",
    )
});

/// Deletes old records, and marks the current time and offset for later calls.
///
/// Keys: the last offset, the stream, the marks: a sorted set of offsets by time. Argument: the number of seconds for which records are
/// kept. Returns the offset before which records were deleted, or nil.
pub static TRIM: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local now = tonumber(redis.call('TIME')[1])
        local old = string.format('%.0f', now - tonumber(ARGV[1]))
        local offset = redis.call('GET', KEYS[1])
        if not offset then return false end
        redis.call('ZADD', KEYS[3], now, offset)
        local mark = redis.call('ZREVRANGEBYSCORE', KEYS[3], old, '-inf', 'LIMIT', 0, 1)[1]
        if mark then redis.call('XTRIM', KEYS[2], 'MINID', mark .. '-0') end
        redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', old)
        return mark or false
        ",
    )
});
