//! The scripts on the table of nodes. Redis runs each of them atomically. Called by the parts of [`super`].

use std::sync::LazyLock;

use remote::redis::Script;

/// The clock of Redis in milliseconds, and the parser of an entry. The parser returns nothing for an entry that another program has
/// written.
const CLOCK: &str = r"
    local time = redis.call('TIME')
    local now = time[1] * 1000 + math.floor(time[2] / 1000)
    local function parts(entry)
        local expires, address, port, state = string.match(entry, '^(%d+) (http://%S+:(%d+)) ?(%a*)$')
        expires = tonumber(expires)
        -- No lease is that long: another program has written the entry, or the clock was set back.
        if not expires or expires > now + 86400000 or tonumber(port) > 65535 then return end
        return expires, address, state
    end
    local function is_wrong_type(reply)
        return type(reply) == 'table' and reply.err and string.find(reply.err, 'WRONGTYPE', 1, true)
    end
";

/// Key: the table. Arguments: the node, its address, its lease in milliseconds, `open` or `closed`, and `1` if the node
/// may claim a free name. Replies 1 if the node holds the lease, 0 while another node holds it, 2 if the name is free and
/// was not claimed, 3 if the node holds the lease in a new table, because the key was not a hash, and 4 if the node holds
/// the lease, and its entry could not be read.
pub static RENEW: LazyLock<Script> = LazyLock::new(|| {
    script(
        r"
        local node, address, lease, state, claims = unpack(ARGV)
        local held, written = redis.pcall('HGET', KEYS[1], node), 1
        if is_wrong_type(held) then
            redis.call('DEL', KEYS[1])
            held, written = false, 3
        elseif type(held) == 'table' then
            return held
        end
        local expires, other = parts(held or '')
        if held and not expires then written = 4 end
        if other ~= address then
            if expires and expires > now then return 0 end
            if claims ~= '1' then return 2 end
        end
        redis.call('HSET', KEYS[1], node, string.format('%.0f', now + lease) .. ' ' .. address .. ' ' .. state)
        return written
        ",
    )
});

/// Key: the table. Arguments: the node, its address. Does not remove the entry of another node of this name.
pub static RELEASE: LazyLock<Script> = LazyLock::new(|| {
    script(
        r"
        local node, address = unpack(ARGV)
        local held = redis.pcall('HGET', KEYS[1], node)
        if type(held) == 'table' then
            if not is_wrong_type(held) then return held end
        elseif held then
            local _, other = parts(held)
            if other == address then redis.call('HDEL', KEYS[1], node) end
        end
        ",
    )
});

/// Keys: the table, and a key to write. Replies with name, address and state of every live node, and with the names of
/// the entries that cannot be read. Deletes expired entries. Entries that cannot be read stay: a later release may have
/// written them.
///
/// A Redis that refuses writes, and serves reads, prevents all renewals. The reply then contains all nodes of the
/// table.
pub static LIVE: LazyLock<Script> = LazyLock::new(|| {
    script(
        r"
        local live, unreadable, all = {}, {}, redis.pcall('HGETALL', KEYS[1])
        if is_wrong_type(all) then
            return redis.error_reply('WRONGTYPE the key ' .. KEYS[1] .. ' is not a hash; delete it, or stop the program that writes it')
        end
        if all.err then return all end
        local written = redis.pcall('SET', KEYS[2], now, 'PX', 60000)
        local refused = type(written) == 'table' and written.err
        for index = 1, #all, 2 do
            local expires, address, state = parts(all[index + 1])
            if not expires then
                table.insert(unreadable, all[index])
            elseif refused or expires > now then
                table.insert(live, {all[index], address, state})
            else
                redis.pcall('HDEL', KEYS[1], all[index])
            end
        end
        return {refused or '', live, unreadable}
        ",
    )
});

/// Key: the notes of waiting nodes. Arguments: the node, the cause, and the time of the note in milliseconds. A value of another type is
/// replaced.
pub static WAIT: LazyLock<Script> = LazyLock::new(|| {
    script(
        r"
        local node, cause, time = unpack(ARGV)
        local note = string.format('%.0f', now + time) .. ' ' .. cause
        if is_wrong_type(redis.pcall('HSET', KEYS[1], node, note)) then
            redis.call('DEL', KEYS[1])
            redis.call('HSET', KEYS[1], node, note)
        end
        redis.call('PEXPIRE', KEYS[1], time)
        ",
    )
});

/// Key: the notes of waiting nodes. Replies with the name and the cause of each note that has not expired.
pub static WAITING: LazyLock<Script> = LazyLock::new(|| {
    script(
        r"
        local waiting, all = {}, redis.pcall('HGETALL', KEYS[1])
        if all.err then return waiting end
        for index = 1, #all, 2 do
            local expires, cause = string.match(all[index + 1], '^(%d+) (.*)$')
            expires = tonumber(expires)
            if expires and expires > now then table.insert(waiting, {all[index], cause}) end
        end
        return waiting
        ",
    )
});

fn script(code: &str) -> Script {
    Script::new(&format!("{CLOCK}{code}"))
}
