-- Reads views for a projector that does not remember them, at one instant.
--
-- KEYS: cursor, epoch, marks of devices, marks of regions, expired; then one per view, devices first.
-- ARGV: MessagePack: the stream and the first row of the run that asks, ids of devices, ids of regions, and for each view the
-- metrics whose statistics are wanted.
-- Returns the version of the views (write.lua) and nothing else when the run does not follow the cursor, or pieces are to be set first; then marks of the devices and of the regions, what expired of the devices, and for each
-- view its values: region, device_count, sample_count, clock_ahead_ms, metrics_dropped; then min_, max_, sum_ and count_ of each metric.

local CURSOR, EPOCH, DEVICE_MARKS, REGION_MARKS, EXPIRED = unpack(KEYS, 1, 5)
local FIXED_KEYS = 5
local CHUNK = 4000 -- unpack() to more than 8,000 values overflows Lua's C stack
local min = math.min

local stream, first, devices, regions, metrics = unpack(cmsgpack.unpack(ARGV[1]), 1, 5)

local function read(key, fields)
    local values = {}
    for from = 1, #fields, CHUNK do
        local part = redis.pcall('HMGET', key, unpack(fields, from, min(from + CHUNK - 1, #fields)))
        if part.err then
            error(key .. ': ' .. part.err, 0)
        end
        for i = 1, #part do
            values[from + i - 1] = part[i]
        end
    end
    return values
end

local applied = 0
local cursors = redis.pcall('HVALS', CURSOR)
if cursors.err then
    error(CURSOR .. ': ' .. cursors.err, 0)
end
for _, cursor in ipairs(cursors) do
    applied = applied + cursor
end
local version = (read(EPOCH, { 'version' })[1] or '') .. string.format(':%.0f', applied)
if first ~= (redis.call('HGET', CURSOR, stream) or 0) + 1 or redis.call('HEXISTS', EPOCH, 'staged') == 1 then
    return { version }
end

local views = {}
for i = 1, #metrics do
    local fields = { 'region', 'device_count', 'sample_count', 'clock_ahead_ms', 'metrics_dropped' }
    local f = 5
    for _, name in ipairs(metrics[i]) do
        fields[f + 1], fields[f + 2], fields[f + 3], fields[f + 4] =
            'min_' .. name, 'max_' .. name, 'sum_' .. name, 'count_' .. name
        f = f + 4
    end
    views[i] = read(KEYS[FIXED_KEYS + i], fields)
end
return { version, read(DEVICE_MARKS, devices), read(REGION_MARKS, regions), read(EXPIRED, devices), views }
