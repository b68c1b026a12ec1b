//! The operations on the stream, as scripts that Redis executes atomically. Called by [`super`]. [`crate::redis`] defines offsets.
//!
//! Redis does not roll back the writes of a script when a later command is refused, and a retry would append again. So a script that
//! writes several keys first checks the permissions for all of them. The record is written before the offset, so a stream that
//! refuses the record stays unchanged.

use std::sync::LazyLock;

use remote::redis::Script;

use crate::redis::script;

/// Appends messages of one room.
///
/// Keys: the epoch, the last offset, the stream, the rooms' last `seq`s, their last messages, the base. Arguments: the epoch of the
/// writer, the room, the number of records to keep, the node, `1` when a room that is absent begins with the first of these messages, the `seq` up
/// to which messages may be skipped (`*`: all), and then `seq`, id and record of each message, in order.
///
/// Returns an outcome, a number and an id:
/// - `appended` and the last offset;
/// - `gap` and the room's last `seq`, when messages before the first one are missing;
/// - `unverified`, the room's last `seq` and the id of that message, when the stream has the first message already and it must not be
///   skipped;
/// - `unknown`, when the room is absent, or its last `seq` is invalid or is not that of its last message;
/// - `epoch_changed`, when the stream has another epoch, or does not end with its last offset.
pub static APPEND: LazyLock<Script> = LazyLock::new(|| {
    script(
        r#"
        local epoch, room, keep, node, begins, skip = unpack(ARGV, 1, 6)
        local first = tonumber(ARGV[7])
        local last_number = last_offset(epoch, {KEYS[1], KEYS[2], KEYS[6], KEYS[3]})
        if not last_number then return {'epoch_changed', '0', ''} end
        local offset = string.format('%.0f', last_number)
        if redis.acl_check_cmd then
            local writes = {{'xadd', KEYS[3], '1-0', 'node', node}, {'set', KEYS[2], offset}, {'hset', KEYS[4], room, '0'}, {'hset', KEYS[5], room, ''}}
            for _, write in ipairs(writes) do
                if not redis.acl_check_cmd(unpack(write)) then
                    return redis.error_reply(string.format("NOPERM this user has no permissions to run the '%s' command", write[1]))
                end
            end
        end
        local seq, id = string.match(redis.call('HGET', KEYS[5], room) or '', '^(%d+) (.*)$')
        local head = seq and redis.call('HGET', KEYS[4], room) == seq and number(seq)
        if not head then
            if begins ~= '1' then return {'unknown', '0', ''} end
            head = first - 1
        end
        local text = string.format('%.0f', head)
        if first > head + 1 then return {'gap', text, ''} end
        if first <= head and skip ~= '*' and skip ~= text then
            return {'unverified', text, id or ''}
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
            text = string.format('%.0f', head)
            redis.call('HSET', KEYS[4], room, text)
            redis.call('HSET', KEYS[5], room, text .. ' ' .. last)
        end
        return {'appended', offset, ''}
        "#,
    )
});

/// Appends a record without a `seq`. The records of the changes of one room are in the order of their numbers.
///
/// Keys: the epoch, the last offset, the stream, the base, the rooms' last changes. Arguments: the epoch of the writer, the number of records
/// to keep, the node, the record, the room and the number of a change, or two empty texts, and `1` if the order is not checked.
///
/// Returns an outcome and a number:
/// - `appended` and the last offset, even when the stream has this change of the room or a later one;
/// - `gap` and the room's last change that has a record (nil if there is no number), when changes before this one have no record;
/// - `epoch_changed`, when the stream has another epoch or does not end with its last offset.
pub static ANNOUNCE: LazyLock<Script> = LazyLock::new(|| {
    script(
        r#"
        local last = last_offset(ARGV[1], {KEYS[1], KEYS[2], KEYS[4], KEYS[3]})
        if not last then return {'epoch_changed', false} end
        local room, rev = ARGV[5], number(ARGV[6])
        if rev then
            local recorded = number(redis.call('HGET', KEYS[5], room))
            if recorded and rev <= recorded then return {'appended', string.format('%.0f', last)} end
            if ARGV[7] ~= '1' and rev > (recorded or 0) + 1 then
                return {'gap', recorded and string.format('%.0f', recorded) or false}
            end
        end
        local offset = string.format('%.0f', last + 1)
        if redis.acl_check_cmd and not redis.acl_check_cmd('set', KEYS[2], offset) then
            return redis.error_reply("NOPERM this user has no permissions to run the 'set' command")
        end
        if rev and redis.acl_check_cmd and not redis.acl_check_cmd('hset', KEYS[5], room, ARGV[6]) then
            return redis.error_reply("NOPERM this user has no permissions to run the 'hset' command")
        end
        redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[2], offset .. '-0', 'node', ARGV[3], 'entry', ARGV[4])
        redis.call('SET', KEYS[2], offset)
        if rev then redis.call('HSET', KEYS[5], room, ARGV[6]) end
        return {'appended', offset}
        "#,
    )
});

/// Reads the last message of a room.
///
/// Keys: the rooms' last `seq`s, their last messages. Argument: the room. Returns the last `seq` and the id of that message, or nil when
/// either is absent or invalid.
pub static ROOM_HEAD: LazyLock<Script> = LazyLock::new(|| {
    script(
        r"
        local head = redis.call('HGET', KEYS[1], ARGV[1])
        local seq, id = string.match(redis.call('HGET', KEYS[2], ARGV[1]) or '', '^(%d+) (.*)$')
        if not number(head) or seq ~= head then return false end
        return {head, id}
        ",
    )
});

/// Reads the records after an offset.
///
/// Keys: the epoch, the last offset, the epoch's first offset, the stream. Arguments: the epoch of the offset, the offset, the maximum
/// number of records.
///
/// Returns the last offset and the records that directly follow the given offset, or nil when the stream has another epoch, these
/// records were trimmed, or a record is not of a node.
pub static MISSED: LazyLock<Script> = LazyLock::new(|| {
    script(
        r"
        local epoch, offset, base = unpack(redis.call('MGET', KEYS[1], KEYS[2], KEYS[3]))
        local after, last = tonumber(ARGV[2]), number(offset)
        base = number(base)
        if epoch ~= ARGV[1] or not last or not base or after < base or after > last then return false end
        if after == last then return {offset, {}} end
        local from = string.format('%.0f-0', after + 1)
        local entries = redis.call('XRANGE', KEYS[4], from, '+', 'COUNT', ARGV[3])
        if #entries == 0 then return false end
        local records = {}
        for index, entry in ipairs(entries) do
            local fields = entry[2]
            if entry[1] ~= string.format('%.0f-0', after + index) or fields[3] ~= 'entry' then return false end
            table.insert(records, fields[4])
        end
        return {offset, records}
        ",
    )
});

/// Deletes old records, and marks the current time and offset for later calls.
///
/// Keys: the last offset, the stream, the marks: a sorted set of offsets by time. Argument: the number of seconds for which records are
/// kept. Marks that are no offsets of the stream are ignored. Returns the offset before which records were deleted, or nil.
pub static TRIM: LazyLock<Script> = LazyLock::new(|| {
    script(
        r"
        local now = tonumber(redis.call('TIME')[1])
        local old = string.format('%.0f', now - tonumber(ARGV[1]))
        local offset = redis.call('GET', KEYS[1])
        local last = number(offset)
        if not last then return false end
        redis.call('ZADD', KEYS[3], now, offset)
        local mark = false
        for _, found in ipairs(redis.call('ZREVRANGEBYSCORE', KEYS[3], old, '-inf', 'LIMIT', 0, 100)) do
            if number(found) and number(found) <= last then mark = found break end
        end
        if mark then redis.call('XTRIM', KEYS[2], 'MINID', mark .. '-0') end
        redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', old)
        return mark
        ",
    )
});
