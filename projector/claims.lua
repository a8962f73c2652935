-- What scripts that claim changes have in common (projector/claims.py), and is put before each: who asks the same again is answered
-- the same, as the answer may have been lost.
--
-- KEYS end with what this projector was answered last.
-- ARGV: the number of the call, then what the script needs.

local ANSWERED = KEYS[#KEYS]
local DAY_S = 86400
local call = redis.call

local answered_number, answered = string.match(call('GET', ANSWERED) or '', '^(%d+) (%d*)$')
if answered_number == ARGV[1] then
    return answered
end

-- Keeps the answer, a digit a change, 1 for those that are claimed; returns it.
local function answer_of(claimed)
    local answer = table.concat(claimed)
    call('SET', ANSWERED, ARGV[1] .. ' ' .. answer, 'EX', DAY_S)
    return answer
end

