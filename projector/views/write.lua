-- Sets views to what a projector has worked out of a run, and moves the cursor: all of it or nothing.
--
-- A run that is too much for one call comes in pieces: the first is set here, and the others are put in a list, from which they are
-- set one by one (settle.lua). With the cursor moved they will be, whoever does it: until then nobody changes the views. Those of a
-- run that is very much are in the list already (stage.lua), after the version that this write is to leave.
--
-- The guard refuses a run that does not follow the cursor, and a projector that does not know what the views hold: each write
-- leaves a word behind, and whoever writes next must name it, with the sum of all cursors, by which a projector that leaves no
-- word is noticed too.
--
-- KEYS: those of set.lua.
-- ARGV: the run as a MessagePack array: stream, epoch, first, last, when the last was written, the format of the views, the version that is
-- expected, the one that this write leaves, the key of a view that was found to be gone, or nothing, and how long the list is, or 0
-- when nothing is in it; then the first piece and its marks, and so on, but nothing more when it is.
-- Returns {status, cursor, ...}: applied; duplicate; gap (first is not cursor + 1); epoch (the views hold another history, were
-- written by another version, are being replaced, or have lost their cursor); stale (the version is another, which
-- follows, or pieces are to be set first, or the list is not what it was: the views are to be read again);
-- lost (a view that was there is gone, or a key that all have in common: the key follows, and the set is marked as one to be made
-- anew).

local stream, epoch, first, last, written_at, form, expected, version, lost, listed =
    unpack(cmsgpack.unpack(ARGV[1]), 1, 10)

local known_cursor = checked(CURSOR, pcall('HGET', CURSOR, stream))
local cursor = tonumber(known_cursor or 0)
local known_epoch, unfinished, known_form, known_version, staged =
    unpack(checked(EPOCH, pcall('HMGET', EPOCH, stream, 'unfinished', 'format', 'version', 'staged')), 1, 5)
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
local applied = applied_rows()
local new_version = version_of(version, applied + last - cursor)
known_version = version_of(known_version, applied)
if staged or known_version ~= expected then
    return { 'stale', cursor, known_version }
end

local piece = cmsgpack.unpack(ARGV[2])
local length = checked(STAGED, pcall('LLEN', STAGED))
if listed > 0 and (length ~= listed or call('LINDEX', STAGED, 0) ~= version) then
    return { 'stale', cursor, known_version }
end
lost = lost ~= '' and lost or lost_of(piece)
if lost then
    call('HSET', EPOCH, 'unfinished', 1)
    return { 'lost', cursor, lost }
end

if listed == 0 and length > 0 then
    call('UNLINK', STAGED) -- of a set that was lost meanwhile, or a run that was given up; first, as Redis may be full of it
end
set(piece, ARGV[3])
if listed > 0 then
    call('LPOP', STAGED)
end
for i = 4, #ARGV do
    call('RPUSH', STAGED, ARGV[i])
end
if listed > 1 or #ARGV > 3 then
    call('HSET', EPOCH, 'staged', call('LLEN', STAGED) / 2, 'staged_for', new_version)
end
call('HSET', EPOCH, stream, epoch, stream .. ':written_at', written_at, 'format', form, 'version', version)
call('HSET', CURSOR, stream, last)
return { 'applied', last, new_version }
