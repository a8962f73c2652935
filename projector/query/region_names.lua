-- Some names of regions, without the marks beside them.
--
-- KEYS: the hash of the regions' marks.
-- ARGV: the cursor of a scan; about how many names.
-- Returns {cursor, names}; the cursor is 0 when that was all.

local found = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
local names = {}
for i = 1, #found[2], 2 do
    names[#names + 1] = found[2][i]
end
return { found[1], names }
