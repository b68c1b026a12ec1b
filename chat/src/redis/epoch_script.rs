//! The script that validates the stream and begins epochs. Also the Lua functions by which all scripts of the stream validate numbers.
//! Called by [`super`].

use std::sync::LazyLock;

use remote::redis::Script;

/// Numbers in Redis are smaller than this. It is below 2^53, so numbers in Lua are exact, and adding 1 changes them.
pub const MAX_NUMBER: u64 = 9_000_000_000_000_000;

/// Functions that validate what Redis contains. Keys can be overwritten by other programs, so a script uses no value that is not
/// validated. `number` returns a decimal number below [`MAX_NUMBER`] in the form in which scripts write it, and nil for other values.
/// `millis` returns the offset of the id of a record. `last_offset` returns the last offset if the stream has the epoch and ends with that
/// offset, and nil otherwise; its keys are the epoch, the last offset, the base and the stream.
const VALIDATION: &str = r"
    local function number(text)
        if type(text) ~= 'string' or #text > 16 or not string.match(text, '^%d+$') then return nil end
        local value = tonumber(text)
        return value < MAX_NUMBER and string.format('%.0f', value) == text and value or nil
    end
    local function millis(id)
        return number(string.match(id, '^(%d+)%-%d+$'))
    end
    local function last_offset(epoch, keys)
        local current, offset, base = unpack(redis.call('MGET', keys[1], keys[2], keys[3]))
        local last, newest = number(offset), redis.call('XREVRANGE', keys[4], '+', '-', 'COUNT', 1)[1]
        base = number(base)
        local top = newest and millis(newest[1]) or 0
        local fits = last and base and (top == last or (last == base and top < base))
        return current == epoch and fits and last or nil
    end
";

/// A script that can use the functions of [`VALIDATION`].
pub fn script(code: &str) -> Script {
    let validation = VALIDATION.replace("MAX_NUMBER", &MAX_NUMBER.to_string());
    Script::new(&format!("{validation}{code}"))
}

/// Validates the stream, and begins a new epoch if it is not intact. Returns the epoch, the last offset, the base, the number and offset
/// of replacements, and a key whose value was invalid.
///
/// Keys: those of [`super`], in the order incarnation, epoch, offset, base, stream, heads, last, marks, replaced, since, revs. Arguments: the
/// incarnation of this Redis, the id of a new epoch, the largest offset that the caller has seen, an epoch that the caller has found
/// damaged, `1` if it is damaged because the store of messages was replaced, the number of replacements that the caller has seen.
///
/// A new epoch begins after every offset that was ever assigned, and without rooms. It begins when Redis has started since, because it
/// may have lost data, and when a part of the stream is missing, invalid or contradicts another: keys can be evicted, deleted, restored,
/// or used by another application. Nothing is written while the stream is intact.
///
/// Offsets begin at the time in microseconds. An offset in Redis that is far ahead of the time (beyond 4.5e15, the year 2112) was not
/// assigned by a node, and a new epoch does not begin after it. A stream whose ids are beyond the new epoch is deleted, because it would
/// refuse records.
pub static OPEN_EPOCH: LazyLock<Script> = LazyLock::new(|| {
    script(
        r"
        local kinds = {'string', 'string', 'string', 'string', 'stream', 'hash', 'hash', 'zset', 'string', 'string', 'hash'}
        local far, most_replaced = 4500000000000000, 1000000000
        local damaged = nil
        for index, kind in ipairs(kinds) do
            local found = redis.call('TYPE', KEYS[index]).ok
            if found ~= 'none' and found ~= kind then
                redis.call('DEL', KEYS[index])
                damaged = KEYS[index]
            end
        end
        local function valid(index, text, value)
            if text and not value then damaged = KEYS[index] end
            return value
        end
        local incarnation, epoch, last, base = unpack(redis.call('MGET', KEYS[1], KEYS[2], KEYS[3], KEYS[4]))
        last, base = valid(3, last, number(last)), valid(4, base, number(base))
        epoch = valid(2, epoch, epoch and #epoch == 16 and not string.find(epoch, '[^0-9a-f]') and epoch or nil)
        local count, since = unpack(redis.call('MGET', KEYS[9], KEYS[10]))
        local replaced = valid(9, count, number(count)) or 0
        if replaced > most_replaced then replaced = valid(9, count, nil) or 0 end
        local is_since_valid = not since or (number(since) and number(since) <= (base or far))
        valid(10, since, is_since_valid)
        -- The id of the newest record, and the largest id that was ever used, also by a record that was deleted.
        local top, used = 0, 0
        local newest = redis.call('XREVRANGE', KEYS[5], '+', '-', 'COUNT', 1)[1]
        if newest then top = valid(5, newest[1], millis(newest[1])) or math.huge end
        local info = redis.pcall('XINFO', 'STREAM', KEYS[5])
        for index = 1, #info, 2 do
            if info[index] == 'last-generated-id' then
                used = valid(5, info[index + 1], millis(info[index + 1])) or math.huge
            end
        end
        local fits = last and base and base <= last and used <= last and (top == last or (last == base and top < base))
        replaced = math.max(replaced, tonumber(ARGV[6]))
        if damaged or not (fits and epoch and incarnation == ARGV[1] and epoch ~= ARGV[4]) then
            local time = redis.call('TIME')
            local begins = time[1] * 1000000 + time[2]
            if begins >= far then begins = 1 end
            for _, assigned in ipairs({last or 0, top, used}) do
                if begins <= assigned and assigned < far then begins = assigned + 1 end
            end
            if begins <= tonumber(ARGV[3]) then begins = tonumber(ARGV[3]) + 1 end
            local first = string.format('%.0f', begins)
            -- Deleted first: if the command is refused, the epoch stays and the next call retries.
            redis.call('DEL', KEYS[6], KEYS[7], KEYS[11])
            if top >= begins or used >= begins then redis.call('DEL', KEYS[5]) end
            if epoch and epoch == ARGV[4] and ARGV[5] == '1' then
                replaced = math.min(replaced + 1, most_replaced)
                redis.call('SET', KEYS[10], first)
            elseif not is_since_valid then
                redis.call('SET', KEYS[10], first)
            end
            redis.call('MSET', KEYS[1], ARGV[1], KEYS[2], ARGV[2], KEYS[3], first, KEYS[4], first)
            redis.call('MSET', KEYS[9], string.format('%.0f', replaced))
        end
        local state = redis.call('MGET', KEYS[2], KEYS[3], KEYS[4], KEYS[9], KEYS[10])
        state[6] = damaged or false
        return state
        ",
    )
});
