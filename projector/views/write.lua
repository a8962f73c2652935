-- Sets fields of views to what a projector has worked out, and moves the cursor: all of it or nothing.
--
-- Lua has no rollback. So whatever could fail is tried before anything is written: the type of every key, and whether the views
-- that should be there are. The guard refuses a run that does not follow the cursor, and a projector that does not know what the
-- views hold: each write leaves a word behind, and whoever writes next must name it, with the sum of all cursors, by which a
-- projector that leaves no word is noticed too.
--
-- KEYS: cursor, epoch, marks of devices, marks of regions, last seen, clocks ahead, expired; then one per view.
-- ARGV: the run as one MessagePack array: stream, epoch, first, last, when the last was written, the format of the views,
-- updated_at, updated_ms, the version that is expected, the one that this write leaves; then for each view whether it is there, and
-- its sample_count with names and values of other fields to set; then
-- views, by their number, and fields to remove; ids of devices and how many bytes their marks have, the same of regions; times of devices, clocks
-- ahead, clocks not ahead any more, devices that are back; and the key of a view that was found to be gone, or nothing. Then the
-- bytes of all marks.
-- Returns {status, cursor, ...}: applied; duplicate; gap (first is not cursor + 1); epoch (the views hold another history, were
-- written by another version, are being replaced, or have lost their cursor); stale (the version is another, which
-- follows: the views are to be read again);
-- lost (a view that was there is gone, or a key that all have in common: the key follows, and the set is marked as one to be made
-- anew).

local CURSOR, EPOCH, DEVICE_MARKS, REGION_MARKS, LAST_SEEN, CLOCK_AHEAD, EXPIRED = unpack(KEYS, 1, 7)
local FIXED_KEYS = 7
local CHUNK = 4000 -- unpack() to more than 8,000 values overflows Lua's C stack
local call, pcall, min = redis.call, redis.pcall, math.min

local stream, epoch, first, last, written_at, form, updated_at, updated_ms, expected, version, existed, fields, gone, device_marks, region_marks, seen, ahead, caught_up, back, lost =
    unpack(cmsgpack.unpack(ARGV[1]), 1, 20)

-- Passes a reply on; an error ends the script, and says at which key.
local function checked(key, reply)
    if type(reply) == 'table' and reply.err then
        error(key .. ': ' .. reply.err, 0)
    end
    return reply
end

local function write(command, key, arguments, from)
    for i = from or 1, #arguments, CHUNK do
        call(command, key, unpack(arguments, i, min(i + CHUNK - 1, #arguments)))
    end
end

local known_cursor = checked(CURSOR, pcall('HGET', CURSOR, stream))
local cursor = tonumber(known_cursor or 0)
local known_epoch, unfinished, known_form, known_version =
    unpack(checked(EPOCH, pcall('HMGET', EPOCH, stream, 'unfinished', 'format', 'version')), 1, 4)
local outdated = known_form ~= form and call('EXISTS', CURSOR) == 1
local views = checked(LAST_SEEN, pcall('ZCARD', LAST_SEEN))
local damaged = not known_cursor and (known_epoch or (not known_form and call('EXISTS', CURSOR) == 0 and views > 0))
if unfinished or outdated or damaged or (known_epoch and known_epoch ~= epoch) then
    return { 'epoch', cursor }
elseif last <= cursor then
    return { 'duplicate', cursor }
elseif first ~= cursor + 1 then
    return { 'gap', cursor }
end
local applied = 0
for _, each in ipairs(call('HVALS', CURSOR)) do
    applied = applied + each
end
known_version = (known_version or '') .. string.format(':%.0f', applied)
if known_version ~= expected then
    return { 'stale', cursor, known_version }
end

checked(CLOCK_AHEAD, pcall('ZCARD', CLOCK_AHEAD))
local marked, expired = checked(DEVICE_MARKS, pcall('HLEN', DEVICE_MARKS)), checked(EXPIRED, pcall('HLEN', EXPIRED))
local marked_regions = checked(REGION_MARKS, pcall('HLEN', REGION_MARKS))
local devices, known_device, known_region = #device_marks / 2, false, false
for i = 1, #fields do
    local key = KEYS[FIXED_KEYS + i]
    if checked(key, pcall('HLEN', key)) == 0 and existed[i] and lost == '' then
        lost = key
    end
    known_device = known_device or (existed[i] and i <= devices)
    known_region = known_region or (existed[i] and i > devices)
end
if views > 0 and marked == 0 then
    lost = DEVICE_MARKS
elseif views == 0 and (known_device or marked > expired) then -- who never expired is in both
    lost = LAST_SEEN
elseif known_region and marked_regions == 0 then
    lost = REGION_MARKS
end
if lost ~= '' then
    call('HSET', EPOCH, 'unfinished', 1)
    return { 'lost', cursor, lost }
end

for i = 1, #fields do
    local key, its = KEYS[FIXED_KEYS + i], fields[i]
    local together = min(#its, CHUNK + 1)
    call('HSET', key, 'updated_at', updated_at, 'updated_ms', updated_ms, 'sample_count', unpack(its, 1, together))
    write('HSET', key, its, together + 1)
end
for i = 1, #gone do
    write('HDEL', KEYS[FIXED_KEYS + gone[i][1]], gone[i][2])
end
local at = 1
for _, marks in ipairs({ { DEVICE_MARKS, device_marks }, { REGION_MARKS, region_marks } }) do
    local pairs_of = marks[2]
    for i = 2, #pairs_of, 2 do
        local size = pairs_of[i]
        pairs_of[i] = ARGV[2]:sub(at, at + size - 1)
        at = at + size
    end
    write('HSET', marks[1], pairs_of)
end
write('ZADD', LAST_SEEN, seen)
write('ZADD', CLOCK_AHEAD, ahead)
write('ZREM', CLOCK_AHEAD, caught_up)
write('HSET', EXPIRED, back)
call('HSET', EPOCH, stream, epoch, stream .. ':written_at', written_at, 'format', form, 'version', version)
call('HSET', CURSOR, stream, last)
return { 'applied', last, version .. string.format(':%.0f', applied + last - cursor) }
