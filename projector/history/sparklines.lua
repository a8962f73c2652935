-- Puts means of minutes into devices' sparklines (projector/history/sparklines.py says what these are).
--
-- KEYS: the marker, then one per device. ARGV: a MessagePack array of an array per device: metric, minute and mean of each value, the
-- oldest first. Returns 1, or 0 when the marker is gone: then Redis has lost what was written before; after it the keys that were left
-- alone because they hold something else.

local MINUTES, LIFE_S = 60, 7200
local RENEWED = 10 -- minutes: of lines that go on minute by minute, life is prolonged so often
local ROOM, HASH, LINE = 2048, 190, 272 -- bytes: for a device, of an empty hash, of a line beside its name; measured, rounded up
local CHUNK = 4000 -- unpack() to more than 8,000 values overflows Lua's C stack
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

-- Puts values into a device's lines; false when the key holds something else. Redis is asked and told once each.
local function show(key, values)
    local names, at = {}, {}
    for i = 1, #values, 3 do
        if not at[values[i]] then
            names[#names + 1] = values[i]
            at[values[i]] = #names
        end
    end
    local lines, room, prolonged = {}, nil, false
    for from = 1, #names, CHUNK do
        local some = redis.pcall('HMGET', key, unpack(names, from, math.min(from + CHUNK - 1, #names)))
        if some.err then
            return false
        end
        for i = 1, #some do
            lines[from + i - 1] = some[i]
        end
    end
    for i = 1, #values, 3 do
        local n, minute, mean = at[values[i]], values[i + 1], values[i + 2]
        local line = lines[n]
        if not line then
            room = room or room_left(key)
            local cost = LINE + size(names[n])
            if cost <= room then
                room = room - cost
                line = fresh(minute)
            end
        elseif #line ~= 4 + #EMPTY then
            line = fresh(minute)
        end
        if line then
            local later = minute - struct.unpack('<I4', line)
            prolonged = prolonged or later ~= 1 or minute % RENEWED == 0
            lines[n] = put(line, minute, mean)
        end
    end
    local fields = {}
    for n = 1, #names do
        if lines[n] then
            fields[#fields + 1], fields[#fields + 2] = names[n], lines[n]
        end
    end
    for from = 1, #fields, CHUNK do
        redis.call('HSET', key, unpack(fields, from, math.min(from + CHUNK - 1, #fields)))
    end
    if prolonged then
        redis.call('EXPIRE', key, LIFE_S)
    end
    return true
end

local answer = { redis.call('EXISTS', KEYS[1]) }
for i, values in ipairs(cmsgpack.unpack(ARGV[1])) do
    if not show(KEYS[i + 1], values) then
        table.insert(answer, KEYS[i + 1])
    end
end
return answer
