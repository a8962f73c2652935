-- Takes returns away that are later than the time: a clock that was ahead has told of them, and they would hold up silences.
--
-- KEYS: who is back, device → when the message came that told so.
-- ARGV: epoch seconds; where to go on, 0 at first.
-- Returns where to go on, 0 at the end.

local page = redis.call('HSCAN', KEYS[1], ARGV[2], 'COUNT', 1000)
for i = 1, #page[2], 2 do
    if (tonumber(page[2][i + 1]) or 0) > tonumber(ARGV[1]) then
        redis.call('HDEL', KEYS[1], page[2][i])
    end
end
return page[1]
