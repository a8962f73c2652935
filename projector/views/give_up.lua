-- Marks a set of views as one that no stream leads on from, unless it has been made anew since that was found.
--
-- KEYS: cursor, epoch.
-- ARGV: the mark; then streams, each with where its cursor was then. If all are before that now, nothing is done.

for i = 2, #ARGV, 2 do
    if tonumber(redis.call('HGET', KEYS[1], ARGV[i]) or 0) >= tonumber(ARGV[i + 1]) then
        return redis.call('HSET', KEYS[2], ARGV[1], '1')
    end
end
