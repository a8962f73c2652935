-- One page of the devices, the longest silent first, from behind a place in that order; all of it at one instant.
--
-- The order is that of the sorted set: last_seen_ms, then the id byte by byte. A place is a score and an id, and stays what it
-- is when the device that stood there has moved on. The work is bounded: `look` devices at most are looked at, however few match.
--
-- KEYS: the sorted set devices:last_seen.
-- ARGV: what stands before the ids in their hashes' keys; limit; look; the highest score, or +inf; score and id of the place,
-- both empty for the beginning; then filters, each empty for any: region, metric, above, below, whether the clock is ahead (1 or
-- 0), whether the device is online (true or false; who never said is neither); then name and value of each tag.
-- Returns {score, id, hashes}: the place of the last device looked at, both empty when none is behind it; and the hashes found.

local call, floor, min = redis.call, math.floor, math.min
local SEEN = KEYS[1]
local PREFIX, LIMIT, LOOK, NEWEST = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local AFTER_SCORE, AFTER_ID = ARGV[5], ARGV[6]
local REGION, METRIC, ABOVE, BELOW = ARGV[7], ARGV[8], tonumber(ARGV[9]), tonumber(ARGV[10])
local AHEAD, ONLINE, FIRST_TAG = ARGV[11], ARGV[12], 13
local CHUNK = 500

local WANTED = { 'region', 'last_' .. METRIC, 'count_' .. METRIC, 'clock_ahead_ms', 'online' }
local FIXED = #WANTED
for i = FIRST_TAG, #ARGV, 2 do
    WANTED[#WANTED + 1] = 'tag_' .. ARGV[i]
end
local TAGGED = #WANTED > FIXED

-- Compares byte by byte: Lua's own < on strings follows the server's locale.
local function is_after(id, other)
    for i = 1, min(#id, #other) do
        local byte, other_byte = id:byte(i), other:byte(i)
        if byte ~= other_byte then
            return byte > other_byte
        end
    end
    return #id > #other
end

-- The rank of the first device behind a place: halves those that share its score until one is left.
local function rank_behind(score, id)
    local low, high = call('ZCOUNT', SEEN, '-inf', '(' .. score), call('ZCOUNT', SEEN, '-inf', score)
    while low < high do
        local middle = floor((low + high) / 2)
        if is_after(call('ZRANGE', SEEN, middle, middle)[1], id) then
            high = middle
        else
            low = middle + 1
        end
    end
    return low
end

-- A string that looks like a number to strtod, such as `nan` or `0x1f`, is none.
local function is_between(text, values)
    local number = values and text and text:find('^-?%d') and not text:find('[xX]') and tonumber(text)
    return number and (not ABOVE or number > ABOVE) and (not BELOW or number < BELOW)
end

local function matches(key)
    if REGION == '' and METRIC == '' and AHEAD == '' and ONLINE == '' and not TAGGED then
        return true
    end
    local found = call('HMGET', key, unpack(WANTED))
    local region, last, values, ahead, online = unpack(found, 1, FIXED)
    if REGION ~= '' and region ~= REGION or AHEAD ~= '' and (AHEAD == '1') ~= (ahead and true or false) then
        return false
    end
    if ONLINE ~= '' and online ~= ONLINE then
        return false
    end
    for i = FIRST_TAG, #ARGV, 2 do
        if found[FIXED + 1 + (i - FIRST_TAG) / 2] ~= ARGV[i + 1] then
            return false
        end
    end
    if ABOVE or BELOW then
        return is_between(last, values)
    end
    return METRIC == '' or last
end

local rank = AFTER_SCORE == '' and 0 or rank_behind(AFTER_SCORE, AFTER_ID)
local total = call('ZCOUNT', SEEN, '-inf', NEWEST)
local last_rank, score, id, found = min(total, rank + LOOK), '', '', {}
while rank < last_rank and #found < LIMIT do
    local chunk = call('ZRANGE', SEEN, rank, min(last_rank, rank + CHUNK) - 1, 'WITHSCORES')
    for i = 1, #chunk, 2 do
        id, score, rank = chunk[i], chunk[i + 1], rank + 1
        if matches(PREFIX .. id) then
            local fields = call('HGETALL', PREFIX .. id)
            if #fields > 0 then
                found[#found + 1] = fields
                if #found == LIMIT then
                    break
                end
            end
        end
    end
end
if rank >= total then
    score, id = '', ''
end
return { score, id, found }
