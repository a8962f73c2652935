-- Puts means of minutes into devices' sparklines (projector/history/sparklines.py says what these are).
--
-- KEYS: the marker, then one per device. ARGV: per device how many values come, then metric, minute and mean of each, the oldest
-- first. Returns 1, or 0 when the marker is gone: then Redis has lost what was written before; after it the keys that were left
-- alone because they hold something else.

local MINUTES, LIFE_S = 60, 7200
local ROOM, HASH, LINE = 2048, 190, 272 -- bytes: for a device, of an empty hash, of a line beside its name; measured, rounded up
local NONE = struct.pack('<f', 0 / 0)
local EMPTY = NONE:rep(MINUTES)

-- What a string takes: the allocator rounds up by a quarter at most.
local function size(text)
    return 16 + 1.25 * #text
end

local function room_left(key)
    local room = ROOM - HASH - size(key)
    for _, metric in ipairs(redis.call('HKEYS', key)) do
        room = room - LINE - size(metric)
    end
    return room
end

local function fresh(minute)
    return struct.pack('<I4', minute) .. EMPTY
end

local function put(line, minute, mean)
    local newest = struct.unpack('<I4', line)
    local value = struct.pack('<f', mean)
    if minute > newest then
        local shift = math.min(minute - newest, MINUTES)
        return struct.pack('<I4', minute) .. line:sub(5 + 4 * shift) .. NONE:rep(shift - 1) .. value
    elseif minute > newest - MINUTES then
        local at = 5 + 4 * (MINUTES - 1 - (newest - minute))
        return line:sub(1, at - 1) .. value .. line:sub(at + 4)
    end
    return line
end

local function show(key, first, last)
    local lines, room = {}, nil
    for i = first, last, 3 do
        local metric, minute, mean = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
        local line = lines[metric] or redis.call('HGET', key, metric)
        if not line then
            room = room or room_left(key)
            local cost = LINE + size(metric)
            if cost <= room then
                room = room - cost
                line = fresh(minute)
            end
        elseif #line ~= 4 + #EMPTY then
            line = fresh(minute)
        end
        if line then
            lines[metric] = put(line, minute, mean)
        end
    end
    for metric, line in pairs(lines) do
        redis.call('HSET', key, metric, line)
    end
    redis.call('EXPIRE', key, LIFE_S)
end

local answer = { redis.call('EXISTS', KEYS[1]) }
local a = 1
for k = 2, #KEYS do
    local key, values = KEYS[k], 3 * tonumber(ARGV[a])
    local kind = redis.call('TYPE', key).ok
    if kind == 'hash' or kind == 'none' then
        show(key, a + 1, a + values)
    else
        table.insert(answer, key)
    end
    a = a + 1 + values
end
return answer
