-- Puts pieces of a run that is still being worked out in the list of pieces; they count when write.lua says so.
--
-- KEYS: those of set.lua. ARGV: the version that the write will leave; how long the list is, 0 to begin it; then pieces, each with
-- its marks.
-- Returns how long the list is then, its first entry being the version; 0 when it is another's, or pieces of an earlier run are
-- to be set first: nothing was put there.

local word, known = ARGV[1], tonumber(ARGV[2])
local length = checked(STAGED, pcall('LLEN', STAGED))

if checked(EPOCH, pcall('HEXISTS', EPOCH, 'staged')) == 1 then
    return 0
elseif known == 0 then
    call('UNLINK', STAGED)
    call('RPUSH', STAGED, word)
elseif length ~= known or call('LINDEX', STAGED, 0) ~= word then
    return 0
end
for i = 3, #ARGV do
    call('RPUSH', STAGED, ARGV[i])
end
return call('LLEN', STAGED)
