-- What write.lua, settle.lua and stage.lua have in common, and is put before each: looking at a piece of a run, and setting it.
--
-- KEYS begin with: cursor, epoch, marks of devices, marks of regions, last seen, clocks ahead, expired, staged.
-- A piece is a MessagePack array: updated_at, updated_ms; the keys of its views, devices first, and how many these are; for each whether it is there, and its
-- sample_count with names and values of other fields to set; then views, by their number, and fields to remove; ids of devices and
-- how many bytes their marks have, the same of regions; times of devices, clocks ahead, clocks not ahead any more, devices that
-- are back. The bytes of all marks follow it.

local CURSOR, EPOCH, DEVICE_MARKS, REGION_MARKS, LAST_SEEN, CLOCK_AHEAD, EXPIRED, STAGED = unpack(KEYS, 1, 8)
local CHUNK = 4000 -- unpack() to more than 8,000 values overflows Lua's C stack
local call, pcall, min = redis.call, redis.pcall, math.min

-- Passes a reply on; an error ends the script, and says at which key.
local function checked(key, reply)
    if type(reply) == 'table' and reply.err then
        error(key .. ': ' .. reply.err, 0)
    end
    return reply
end

local function in_chunks(command, key, arguments, from)
    for i = from or 1, #arguments, CHUNK do
        call(command, key, unpack(arguments, i, min(i + CHUNK - 1, #arguments)))
    end
end

-- How many rows of all streams are in the views: with the word that the last write left, it is their version.
local function applied_rows()
    local applied = 0
    for _, each in ipairs(checked(CURSOR, pcall('HVALS', CURSOR))) do
        applied = applied + each
    end
    return applied
end

local function version_of(word, applied)
    return (word or '') .. string.format(':%.0f', applied)
end

-- Lua has no rollback: so whatever could fail is tried before anything is set, the type of every key and whether the views that
-- should be there are. Returns a key that is gone, or nothing.
local function lost_of(piece)
    local views, devices, existed = unpack(piece, 3, 5)
    local known_device, known_region, lost = false, false, nil
    local seen = checked(LAST_SEEN, pcall('ZCARD', LAST_SEEN))
    local marked, expired = checked(DEVICE_MARKS, pcall('HLEN', DEVICE_MARKS)), checked(EXPIRED, pcall('HLEN', EXPIRED))
    local marked_regions = checked(REGION_MARKS, pcall('HLEN', REGION_MARKS))
    checked(CLOCK_AHEAD, pcall('ZCARD', CLOCK_AHEAD))
    for i = 1, #views do
        if checked(views[i], pcall('HLEN', views[i])) == 0 and existed[i] then
            lost = lost or views[i]
        end
        known_device = known_device or (existed[i] and i <= devices)
        known_region = known_region or (existed[i] and i > devices)
    end
    if seen > 0 and marked == 0 then
        return DEVICE_MARKS
    elseif seen == 0 and (known_device or marked > expired) then -- who never expired is in both
        return LAST_SEEN
    elseif known_region and marked_regions == 0 then
        return REGION_MARKS
    end
    return lost
end

local function set(piece, marks)
    local updated_at, updated_ms, views, _, _, fields, gone, device_marks, region_marks, seen, ahead, caught_up, back = unpack(piece, 1, 13)
    for i = 1, #views do
        local key, its = views[i], fields[i]
        local together = min(#its, CHUNK + 1)
        call('HSET', key, 'updated_at', updated_at, 'updated_ms', updated_ms, 'sample_count', unpack(its, 1, together))
        in_chunks('HSET', key, its, together + 1)
    end
    for i = 1, #gone do
        in_chunks('HDEL', views[gone[i][1]], gone[i][2])
    end
    local at = 1
    for _, each in ipairs({ { DEVICE_MARKS, device_marks }, { REGION_MARKS, region_marks } }) do
        local pairs_of = each[2]
        for i = 2, #pairs_of, 2 do
            local size = pairs_of[i]
            pairs_of[i] = marks:sub(at, at + size - 1)
            at = at + size
        end
        in_chunks('HSET', each[1], pairs_of)
    end
    in_chunks('ZADD', LAST_SEEN, seen)
    in_chunks('ZADD', CLOCK_AHEAD, ahead)
    in_chunks('ZREM', CLOCK_AHEAD, caught_up)
    in_chunks('HSET', EXPIRED, back)
end

