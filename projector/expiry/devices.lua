-- Takes devices out of the views that have been silent for too long, and remembers what their return needs.
--
-- KEYS: epoch, last seen, clocks ahead, expired, then one hash per device.
-- ARGV: a time in epoch milliseconds; the version of the views that this leaves, when any device goes; the devices' ids.
-- Goes: a device whose newest message and whose view's last change are both before that time. Its region counts it as before.
-- What is no view of ours stays. Returns how many have gone; none while the views are being replaced, or set in pieces.

local EPOCH, LAST_SEEN, CLOCK_AHEAD, EXPIRED = unpack(KEYS, 1, 4)
local FIXED_KEYS = 4
local call = redis.call
local before = tonumber(ARGV[1])
local gone = 0

if call('HEXISTS', EPOCH, 'unfinished') == 1 or call('HEXISTS', EPOCH, 'staged') == 1 then
    return 0
end
call('HLEN', EXPIRED) -- fails here, before anything is written, when it is something else
for i = 3, #ARGV do
    local id, key = ARGV[i], KEYS[FIXED_KEYS + i - 2]
    local score = tonumber(call('ZSCORE', LAST_SEEN, id) or before)
    if score < before and call('TYPE', key).ok == 'hash' then
        local changed, last_seen, region = unpack(call('HMGET', key, 'updated_ms', 'last_seen', 'region'), 1, 3)
        if last_seen and (tonumber(changed) or before) < before then
            call('ZREM', LAST_SEEN, id) -- first, as a Redis that is full refuses to begin with a command that may grow
            call('ZREM', CLOCK_AHEAD, id)
            call('UNLINK', key)
            if gone == 0 then
                call('HSET', EPOCH, 'version', ARGV[2])
            end
            call('HSET', EXPIRED, id, cjson.encode({ region = region or nil, last_seen = last_seen }))
            gone = gone + 1
        end
    end
end
return gone
