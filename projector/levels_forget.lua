-- Forgets what nobody can come late with any more, unless it has changed meanwhile.
--
-- KEYS: what was told.
-- ARGV: for each its field and the value that was read.

for i = 1, #ARGV, 2 do
    if redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[i + 1] then
        redis.call('HDEL', KEYS[1], ARGV[i])
    end
end
