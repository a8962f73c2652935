-- Puts a replica in the place of the live views: all of it or nothing.
--
-- Blocks Redis for 4 ms with a thousand devices, a second with a hundred thousand; readers see either the old set or the new one. Whatever the
-- live set had and the replica has not goes, views that appeared a moment ago among it: their rows come after the replica's
-- cursors and will be applied again, so anything left of them would be counted twice.
--
-- KEYS: the lock; then cursor, epoch, marks of devices, marks of regions, last seen of the live set, and of the replica.
-- ARGV: the token that the lock holds as long as the replica is ours; then what stands before the ids of devices and of
-- regions in the live set, and in the replica; then keys of live views that no marks may tell of.
-- Returns how many views were put in place; -1 when the replica is not ours any more or lacks a view that its marks tell of.

local LOCK, TOKEN = KEYS[1], ARGV[1]
local LIVE, REPLICA, FIXED, STRAYS = 1, 6, 5, 6
local KINDS = {
    { marks = 3, live = ARGV[2], replica = ARGV[4] },
    { marks = 4, live = ARGV[3], replica = ARGV[5] },
}
local call = redis.call

local function ids(key)
    return call('TYPE', key).ok == 'hash' and call('HKEYS', key) or {}
end

if call('GET', LOCK) ~= TOKEN then
    return -1
end
for _, kind in ipairs(KINDS) do
    kind.old, kind.new = ids(KEYS[LIVE + kind.marks]), ids(KEYS[REPLICA + kind.marks])
    for _, id in ipairs(kind.new) do
        if call('EXISTS', kind.replica .. id) == 0 then
            return -1
        end
    end
end

local placed, count = {}, 0
for _, kind in ipairs(KINDS) do
    for _, id in ipairs(kind.new) do
        call('RENAME', kind.replica .. id, kind.live .. id)
        placed[kind.live .. id] = true
    end
    count = count + #kind.new
    for _, id in ipairs(kind.old) do
        if not placed[kind.live .. id] then
            call('UNLINK', kind.live .. id)
        end
    end
end
for i = STRAYS, #ARGV do
    if not placed[ARGV[i]] then
        call('UNLINK', ARGV[i])
    end
end
for i = 1, FIXED do
    if call('EXISTS', KEYS[REPLICA + i]) == 1 then
        call('RENAME', KEYS[REPLICA + i], KEYS[LIVE + i])
    else
        call('UNLINK', KEYS[LIVE + i])
    end
end
return count
