-- Applies a run of consecutive outbox rows of one stream, folded to deltas, to the views: all of it or nothing.
--
-- Lua has no rollback. So the script first reads every key it will touch and works everything out; a key of the wrong
-- type, a number that is none, a region that no key was passed for all end it there, with nothing written. Only then does
-- it write, the cursor last. The cursor guards against repeats: rows up to it are in the views already.
--
-- Last values follow the order of marks (projector/views/fold.py). Marks live in two hashes of our own, one packed entry per
-- device or region, so that one HMGET reads and one HSET writes them all:
--     us, tie, shape [, home_us, home_tie [, others [, tags [, tags_us, tags_tie]]]]
-- us and tie mark the newest message and shape names the metrics it carried, which share its mark; others maps the
-- remaining metrics to {us, tie}; home marks the message that named the device's region, and tags_us and tags_tie the one that
-- brought its tags, a JSON object, unless those are the newest. What is nil or missing is so.
--
-- KEYS: cursor, epoch, marks of devices, marks of regions, last seen, clocks ahead, expired; then one per device, per region, per
-- former region.
-- ARGV: the run as MessagePack values one after the other, read in passing so that no tables are made of them: stream, epoch,
-- first, last, when the last was written, updated_at, updated_ms, the format of the views, ids of devices, of regions, of former
-- regions; a delta per device, then per region.
-- Returns {status, cursor, ...}: applied; duplicate; gap (first is not cursor + 1); epoch (the views hold another history, were
-- written by another version, are being replaced, or have lost their cursor);
-- lost (a view that was there is gone: its key follows, and the set is marked as one to be made anew);
-- moved (devices leave regions that no key was passed for; their names follow; call again with them as former regions).

local unpack_limit, cmsgpack_pack, cmsgpack_unpack = cmsgpack.unpack_limit, cmsgpack.pack, cmsgpack.unpack
local call, pcall, format, min, max = redis.call, redis.pcall, string.format, math.min, math.max

local RUN = ARGV[1]
local CURSOR, EPOCH, DEVICE_MARKS, REGION_MARKS, LAST_SEEN, CLOCK_AHEAD, EXPIRED = unpack(KEYS, 1, 7)
local FIXED_KEYS = 7
local CHUNK = 4000 -- unpack() to more than 8,000 values overflows Lua's C stack
local LARGEST = 1.79769313486231e308
local METRIC = 8 -- values in a metric's delta: name, last, us, tie, count, total, low, high
local NONE = {}

-- Passes a reply on; an error ends the script, and says at which key.
local function checked(key, reply)
    if type(reply) == 'table' and reply.err then
        error(key .. ': ' .. reply.err, 0)
    end
    return reply
end

local function read_fields(key, fields, size)
    if size <= CHUNK then
        return checked(key, pcall('HMGET', key, unpack(fields, 1, size)))
    end
    local values = {}
    for from = 1, size, CHUNK do
        local part = checked(key, pcall('HMGET', key, unpack(fields, from, min(from + CHUNK - 1, size))))
        for i = 1, #part do
            values[from + i - 1] = part[i]
        end
    end
    return values
end

local function write(command, key, arguments, from, to)
    for i = from, to, CHUNK do
        call(command, key, unpack(arguments, i, min(i + CHUNK - 1, to)))
    end
end

-- The shortest text that reads back as the same double.
local function exact(number)
    local text = format('%.15g', number)
    if tonumber(text) == number then
        return text
    end
    text = format('%.16g', number)
    if tonumber(text) == number then
        return text
    end
    return format('%.17g', number)
end

-- Compares ties byte by byte: Lua's own < on strings follows the server's locale.
local function is_after(us, tie, other_us, other_tie)
    if us ~= other_us then
        return us > other_us
    end
    for i = 1, min(#tie, #other_tie) do
        local byte, other_byte = tie:byte(i), other_tie:byte(i)
        if byte ~= other_byte then
            return byte > other_byte
        end
    end
    return #tie > #other_tie
end

local function set_of(shape)
    local set = {}
    for _, name in ipairs(cjson.decode(shape)) do
        set[name] = true
    end
    return set
end

local field_names = setmetatable({}, {
    __index = function(cache, metric)
        local names = {
            'min_' .. metric, 'max_' .. metric, 'sum_' .. metric,
            'count_' .. metric, 'avg_' .. metric, 'last_' .. metric,
        }
        cache[metric] = names
        return names
    end,
})

-- One delta at a time stands in these: what it brings, and the metrics in it one after the other.
local offset, count, last_seen, ahead_ms, us, tie, shape, region, region_us, region_tie, tags, tags_us, tags_tie
local metrics, metrics_end = {}, 0

local function next_delta()
    local size
    offset, count, last_seen, ahead_ms, us, tie, shape, region, region_us, region_tie, tags, tags_us, tags_tie, size =
        unpack_limit(RUN, 13, offset)
    local m = metrics
    for i = 1, size * METRIC, METRIC do
        offset, m[i], m[i + 1], m[i + 2], m[i + 3], m[i + 4], m[i + 5], m[i + 6], m[i + 7] =
            unpack_limit(RUN, METRIC, offset)
    end
    metrics_end = size * METRIC
end

-- Marks of the view at hand, as they were and then as they will be.
local old_us, old_tie, old_shape, home_us, home_tie, others, old_tags, old_tags_us, old_tags_tie

local function load_marks(packed)
    if packed then
        old_us, old_tie, old_shape, home_us, home_tie, others, old_tags, old_tags_us, old_tags_tie = cmsgpack_unpack(packed)
        if not home_us then
            home_us, home_tie = old_us, old_tie
        end
        if old_tags and not old_tags_us then
            old_tags_us, old_tags_tie = old_us, old_tie
        end
    else
        old_us, old_tie, old_shape, home_us, home_tie, others = -1, '', '[]', -1, '', nil
        old_tags, old_tags_us, old_tags_tie = nil, nil, nil
    end
end

local function dump_marks()
    local away = home_us ~= old_us or home_tie ~= old_tie
    if old_tags then
        local us_of_home, tie_of_home = nil, nil
        if away then
            us_of_home, tie_of_home = home_us, home_tie
        end
        if old_tags_us ~= old_us or old_tags_tie ~= old_tie then
            return cmsgpack_pack(old_us, old_tie, old_shape, us_of_home, tie_of_home, others, old_tags, old_tags_us, old_tags_tie)
        end
        return cmsgpack_pack(old_us, old_tie, old_shape, us_of_home, tie_of_home, others, old_tags)
    elseif others then
        return cmsgpack_pack(old_us, old_tie, old_shape, home_us, home_tie, others)
    elseif away then
        return cmsgpack_pack(old_us, old_tie, old_shape, home_us, home_tie)
    end
    return cmsgpack_pack(old_us, old_tie, old_shape)
end

-- Moves the marks on. Returns whether the delta has the newest message, and the set of metrics whose last value is stale.
local function advance_marks()
    local newer = is_after(us, tie, old_us, old_tie)
    local carried, stale = nil, NONE
    if newer then
        if others or shape ~= old_shape then
            others = others or {}
            for name in pairs(set_of(old_shape)) do
                others[name] = { old_us, old_tie }
            end
            for name in pairs(set_of(shape)) do
                others[name] = nil
            end
        end
        old_us, old_tie, old_shape = us, tie, shape
    else
        carried = set_of(old_shape)
    end
    for i = 1, metrics_end, METRIC do
        local name, metric_us, metric_tie = metrics[i], metrics[i + 2], metrics[i + 3]
        if metric_us > 0 or not newer then
            if metric_us == 0 then
                metric_us, metric_tie = us, tie
            end
            local mark = others and others[name]
            if (carried and carried[name]) or (mark and not is_after(metric_us, metric_tie, mark[1], mark[2])) then
                stale = stale == NONE and {} or stale
                stale[name] = true
            else
                others = others or {}
                others[name] = { metric_us, metric_tie }
            end
        end
    end
    if others and not next(others) then
        others = nil
    end
    return newer, stale
end

-- Arguments of every HSET to come, one view's after the other's; view i has those from starts[i] to starts[i + 1] - 1.
local out, o, starts = {}, 0, { 1 }
local fields, gone = {}, {} -- gone: key, field to remove, and so on
local ahead, caught_up = {}, {} -- members of the set of clocks that are ahead; those that are not any more
local updated_at, updated_ms

local function put(name, value)
    out[o + 1], out[o + 2] = name, value
    o = o + 2
end

local function remove(key, name)
    gone[#gone + 1], gone[#gone + 2] = key, name
end

-- Numbers become text here: the %.17g with which Redis would print them costs twice as much as %d.
local function integer(number)
    return format('%d', number)
end

-- Reads a view and works out what it will hold with the delta at hand. Returns whether the delta has the newest message, the
-- field `extra` as it was, and whether there was no view. Sums and averages are kept to 15 digits: decimal
-- readings then add up without the dust of binary fractions, and one short format() does.
local function merge(key, id_field, id, extra, packed)
    fields[1], fields[2] = extra, 'sample_count'
    local f = 2
    for i = 1, metrics_end, METRIC do
        if metrics[i + 4] > 0 then
            local names = field_names[metrics[i]]
            fields[f + 1], fields[f + 2], fields[f + 3], fields[f + 4] = names[1], names[2], names[3], names[4]
            f = f + 4
        end
    end
    local old = read_fields(key, fields, f)
    load_marks(packed)
    local newer, stale = advance_marks()

    out[o + 1], out[o + 2], out[o + 3], out[o + 4] = 'updated_at', updated_at, 'updated_ms', updated_ms
    out[o + 5], out[o + 6] = 'sample_count', integer((old[2] or 0) + count)
    o = o + 6
    if not old[2] then
        put(id_field, id)
    end
    if newer then
        put('last_seen', last_seen)
        put('last_seen_ms', integer(us / 1000))
    end
    f = 2
    for i = 1, metrics_end, METRIC do
        local name, value, values = metrics[i], metrics[i + 1], metrics[i + 4]
        local names = field_names[name]
        if value and not stale[name] then
            put(names[6], value)
        end
        if values > 0 then
            local total, low, high = metrics[i + 5], metrics[i + 6], metrics[i + 7]
            local old_low, old_high, old_total, old_values = old[f + 1], old[f + 2], old[f + 3], old[f + 4]
            f = f + 4
            if not old_low or low < tonumber(old_low) then
                put(names[1], exact(low))
            end
            if not old_high or high > tonumber(old_high) then
                put(names[2], exact(high))
            end
            if old_total then
                total, values = max(-LARGEST, min(LARGEST, old_total + total)), old_values + values
            end
            out[o + 1], out[o + 2] = names[3], format('%.15g', total)
            out[o + 3], out[o + 4] = names[4], integer(values)
            out[o + 5], out[o + 6] = names[5], format('%.15g', total / values)
            o = o + 6
        end
    end
    return newer, old[1], not old[2]
end

-- The guard.

local stream, epoch, first, last, written_at, form, devices, regions, former_regions
offset, stream, epoch, first, last, written_at, updated_at, updated_ms, form, devices, regions, former_regions =
    unpack_limit(RUN, 11, 0)

local known_cursor = checked(CURSOR, pcall('HGET', CURSOR, stream))
local cursor = tonumber(known_cursor or 0)
local known_epoch, unfinished, known_form = unpack(checked(EPOCH, pcall('HMGET', EPOCH, stream, 'unfinished', 'format')), 1, 3)
local outdated = known_form ~= form and call('EXISTS', CURSOR) == 1
local damaged = not known_cursor
    and (known_epoch or (not known_form and call('EXISTS', CURSOR) == 0 and checked(LAST_SEEN, pcall('ZCARD', LAST_SEEN)) > 0))
if unfinished or outdated or damaged or (known_epoch and known_epoch ~= epoch) then
    return { 'epoch', cursor }
elseif last <= cursor then
    return { 'duplicate', cursor }
elseif first ~= cursor + 1 then
    return { 'gap', cursor }
end

-- Reading and working out.

local device_marks, region_marks, seen, moves = {}, {}, {}, {}

local lost -- the key of a view that was there: its marks say so

local function each_view(ids, skip, id_field, extra, marks_key, marks, visit)
    local packed = #ids > 0 and read_fields(marks_key, ids, #ids) or NONE
    for i = 1, #ids do
        next_delta()
        local key = KEYS[FIXED_KEYS + skip + i]
        visit(key, ids[i], packed[i], merge(key, id_field, ids[i], extra, packed[i]))
        marks[2 * i - 1], marks[2 * i] = ids[i], dump_marks()
        starts[#starts + 1] = o + 1
    end
end

-- A device's tags are those of the newest message that has any: what it does not name is gone.
local function advance_tags(key, is_new)
    local known = old_tags
    if tags then
        if tags_us == 0 then
            tags_us, tags_tie = us, tie
        end
        if not old_tags or is_after(tags_us, tags_tie, old_tags_us, old_tags_tie) then
            old_tags, old_tags_us, old_tags_tie = tags, tags_us, tags_tie
        end
    end
    if not old_tags or (old_tags == known and not is_new) then
        return
    end
    local now = cjson.decode(old_tags)
    for name, value in pairs(now) do
        put('tag_' .. name, value)
    end
    if known and not is_new then
        for name in pairs(cjson.decode(known)) do
            if now[name] == nil then
                remove(key, 'tag_' .. name)
            end
        end
    end
end

local some_ahead = checked(CLOCK_AHEAD, pcall('ZCARD', CLOCK_AHEAD)) > 0
local some_expired = call('EXISTS', EXPIRED) == 1

each_view(devices, 0, 'device_id', 'region', DEVICE_MARKS, device_marks, function(key, id, known, newer, home, is_new)
    local expired = is_new and some_expired and checked(EXPIRED, pcall('HGET', EXPIRED, id))
    if is_new and known and not expired then
        lost = key
    end
    if expired then
        expired = cjson.decode(expired)
        if type(expired.last_seen) ~= 'string' then
            error(EXPIRED .. ': no last_seen at ' .. id, 0)
        end
        home = expired.region
        if home then
            put('region', home)
        end
        if not newer then
            put('last_seen', expired.last_seen)
            put('last_seen_ms', integer(old_us / 1000))
            seen[#seen + 1], seen[#seen + 2] = integer(old_us / 1000), id
        end
    end
    if region and region_us == 0 then
        region_us, region_tie = us, tie
    end
    if region and (not home or is_after(region_us, region_tie, home_us, home_tie)) then
        home_us, home_tie = region_us, region_tie
        if region ~= home then
            put('region', region)
            moves[region] = (moves[region] or 0) + 1
            if home then
                moves[home] = (moves[home] or 0) - 1
            end
        end
    elseif not home then
        home_us, home_tie = old_us, old_tie
    end
    advance_tags(key, is_new)
    if newer then
        seen[#seen + 1], seen[#seen + 2] = integer(us / 1000), id
        if ahead_ms > 0 then
            put('clock_ahead_ms', integer(ahead_ms))
            ahead[#ahead + 1], ahead[#ahead + 2] = integer(ahead_ms), id
        elseif some_ahead and call('ZSCORE', CLOCK_AHEAD, id) then
            remove(key, 'clock_ahead_ms')
            caught_up[#caught_up + 1] = id
        end
    end
end)

each_view(regions, #devices, 'region', 'device_count', REGION_MARKS, region_marks, function(key, id, known, _, members, is_new)
    if is_new and known then
        lost = key
    end
    if moves[id] or not members then
        put('device_count', (members or 0) + (moves[id] or 0))
    end
    moves[id] = nil
    home_us, home_tie = old_us, old_tie
end)

for i = 1, #former_regions do
    local key = KEYS[FIXED_KEYS + #devices + #regions + i]
    local members = checked(key, pcall('HGET', key, 'device_count'))
    if not members then
        lost, members = key, 0
    end
    put('updated_at', updated_at)
    put('updated_ms', updated_ms)
    put('device_count', members + (moves[former_regions[i]] or 0))
    moves[former_regions[i]] = nil
    starts[#starts + 1] = o + 1
end
if lost then
    call('HSET', EPOCH, 'unfinished', 1)
    return { 'lost', cursor, lost }
end
if next(moves) then
    local reply = { 'moved', cursor }
    for name in pairs(moves) do
        reply[#reply + 1] = name
    end
    return reply
end
checked(LAST_SEEN, pcall('ZCARD', LAST_SEEN))

-- Writing.

for i = 1, #starts - 1 do
    write('HSET', KEYS[FIXED_KEYS + i], out, starts[i], starts[i + 1] - 1)
end
for i = 1, #gone, 2 do
    call('HDEL', gone[i], gone[i + 1])
end
write('HSET', DEVICE_MARKS, device_marks, 1, #device_marks)
write('HSET', REGION_MARKS, region_marks, 1, #region_marks)
write('ZADD', LAST_SEEN, seen, 1, #seen)
write('ZADD', CLOCK_AHEAD, ahead, 1, #ahead)
write('ZREM', CLOCK_AHEAD, caught_up, 1, #caught_up)
call('HSET', EPOCH, stream, epoch, stream .. ':written_at', written_at, 'format', form)
call('HSET', CURSOR, stream, last)
return { 'applied', last }
