//! The script on the keys of a claim. Redis runs it atomically. Called by [`super::claim`].

use std::{sync::LazyLock, time::Duration};

use remote::{Redis, Unanswered, redis::Script};

/// The key of the id.
const ID: &str = "{stores}:id";

/// The key of the lease.
pub const CLAIM: &str = "{stores}:claim";

/// Keys: the id of Redis, the lease. Arguments: the last id of Redis that the caller has read, or an empty string; the id and the name of the
/// database; the time of the lease in milliseconds, or 0 to acquire no lease. Replies the id of Redis, and the id and name of another
/// database that holds the lease, or empty strings. Without an id of a database, no id of Redis is created. Values that no role writes count as absent.
static SCRIPT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local time = redis.call('TIME')
        local now = time[1] * 1000 + math.floor(time[2] / 1000)
        local function text(key)
            local value = redis.pcall('GET', key)
            if type(value) == 'table' and not string.find(value.err, 'WRONGTYPE', 1, true) then return redis.call('GET', key) end
            return type(value) == 'string' and value or ''
        end
        local id = string.match(text(KEYS[1]), '^%x+$')
        if not id or #id ~= 24 then
            id = ARGV[1]
            if id == '' and ARGV[2] == '' then return { '', '', '' } end
            if id == '' then
                id = string.sub(redis.sha1hex(redis.call('INFO', 'server') .. time[1] .. ' ' .. time[2]), 1, 24)
            end
            redis.call('SET', KEYS[1], id)
        end
        local holder, till, name = string.match(text(KEYS[2]), '^(%x+) (%d+) (.*)$')
        till = tonumber(till)
        -- No lease is longer than a minute: the clock was set back, or another program has written the value.
        if holder and holder ~= ARGV[2] and till > now and till <= now + 60000 then
            return { id, holder, name }
        end
        local lease = tonumber(ARGV[4])
        if lease > 0 then
            redis.call('SET', KEYS[2], string.format('%s %d %s', ARGV[2], now + lease, ARGV[3]), 'PX', lease)
        end
        return { id, '', '' }
        ",
    )
});

/// Runs [`SCRIPT`].
pub async fn run(
    redis: &Redis,
    last: &str,
    (id, name): (&str, &str),
    lease: Duration,
) -> Result<(String, String, String), Unanswered> {
    let mut script = SCRIPT.prepare_invoke();
    script.key(redis.key(ID)).key(redis.key(CLAIM));
    script.arg(last).arg(id).arg(name).arg(u64::try_from(lease.as_millis()).unwrap_or_default());
    redis.ask(async |mut redis| script.invoke_async(&mut redis).await).await
}
