-- Claims changes of levels: whoever comes first with one writes it, and has it to tell.
--
-- After claims.lua. KEYS begin with what was told, field → level and since when.
-- ARGV, after the number of the call: now; for each change its field, the level, since when, and the level that was told before as far
-- as the projector knows, which counts where Redis has lost it. Times are microseconds since 1970.
--
-- Who is behind comes late with what others have told: what is not newer than what was told last is no news. What was told by a
-- clock that was ahead holds up nothing.

local TOLD = KEYS[1]
local now = tonumber(ARGV[2])
local claimed = {}
for i = 3, #ARGV, 4 do
    local field, level, at = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2])
    local told, since = string.match(call('HGET', TOLD, field) or ARGV[i + 3] .. ' 0', '^(%d) (%d+)$')
    local is_new = told ~= level and (at > (tonumber(since) or 0) or tonumber(since) > now)
    if is_new then
        call('HSET', TOLD, field, level .. ' ' .. ARGV[i + 2])
    end
    claimed[#claimed + 1] = is_new and '1' or '0'
end
return answer_of(claimed)
