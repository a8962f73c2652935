-- Fields of many devices, in one call.
--
-- KEYS: the sorted set devices:last_seen, which lives where the devices do.
-- ARGV: what stands before the ids in their hashes' keys; how many fields; the fields; the ids.
-- Returns a list of values for each id.

local PREFIX, COUNT = ARGV[1], tonumber(ARGV[2])
local names, found = {}, {}
for i = 3, COUNT + 2 do
    names[i - 2] = ARGV[i]
end
for i = COUNT + 3, #ARGV do
    found[i - COUNT - 2] = redis.call('HMGET', PREFIX .. ARGV[i], unpack(names))
end
return found
