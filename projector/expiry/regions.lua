-- Takes regions out of the views in which no device is any more.
--
-- KEYS: epoch, marks of regions, then one hash per region.
-- ARGV: the version of the views that this leaves, when any region goes; then for each region its name, and when it was last seen.
-- Goes: a region without devices that has not been seen since. Returns how many have gone, which adds up among the epochs; none while
-- the views are being replaced, or set in pieces.

local EPOCH, MARKS = unpack(KEYS, 1, 2)
local FIXED_KEYS = 2
local call = redis.call
local gone = 0

if call('HEXISTS', EPOCH, 'unfinished') == 1 or call('HEXISTS', EPOCH, 'staged') == 1 then
    return 0
end
for i = 2, #ARGV, 2 do
    local key = KEYS[FIXED_KEYS + i / 2]
    local devices, last_seen_ms = unpack(call('HMGET', key, 'device_count', 'last_seen_ms'), 1, 2)
    if devices == '0' and last_seen_ms == ARGV[i + 1] then
        call('HDEL', MARKS, ARGV[i]) -- first, as a Redis that is full refuses to begin with a command that may grow
        call('UNLINK', key)
        gone = gone + 1
    end
end
if gone > 0 then
    call('HSET', EPOCH, 'version', ARGV[1])
    call('HINCRBY', EPOCH, 'regions_dropped', gone)
end
return gone
