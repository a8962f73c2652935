-- Sets the next piece of a run whose cursor has been moved (write.lua).
--
-- KEYS: those of set.lua.
-- Returns how many pieces are left, -1 if there was none, and the key of a view that is gone, or nothing: then the set is marked as
-- one to be made anew, and no more is set.

local unfinished, staged, staged_for, version =
    unpack(checked(EPOCH, pcall('HMGET', EPOCH, 'unfinished', 'staged', 'staged_for', 'version')), 1, 4)
if unfinished or not staged then
    return { -1, '' }
end
local found = checked(STAGED, pcall('LRANGE', STAGED, 0, 1))
-- Somebody who knows nothing of pieces may have written since: then these would set values that are old.
local piece, lost
if #found == 2 and staged_for == version_of(version, applied_rows()) then
    piece = cmsgpack.unpack(found[1])
    lost = lost_of(piece)
else
    lost = STAGED
end
if lost then
    call('HSET', EPOCH, 'unfinished', 1)
    return { 0, lost }
end
call('LTRIM', STAGED, 2, -1) -- first, as a Redis that is full refuses to begin with a command that may grow
set(piece, found[2])
if staged == '1' then
    call('HDEL', EPOCH, 'staged', 'staged_for')
else
    call('HINCRBY', EPOCH, 'staged', -1)
end
return { staged - 1, '' }
