-- Claims changes of devices: whoever comes first with one writes it, and has it to tell.
--
-- After claims.lua. KEYS begin with who is silent, device → when its last message came; who is back, device → when the message came
-- that told so.
-- ARGV, after the number of the call: how many changes; for each its device, the silence that it begins or ends, by when the last
-- message before it came, when the device was back, 0 when it is silent, and 1 where the silence is known to have been told; then
-- devices that are not watched any more.
--
-- Who is behind comes late with what others have told: a silence before the last return is none, and a return ends no silence
-- that is newer. A return more than a day later than a silence is of a clock that was wrong.
-- Where nothing stands of a silence that was told, somebody has thrown it away: its end is news all the same.

local SILENT, BACK = KEYS[1], KEYS[2]
local claimed = {}
for i = 3, 4 * ARGV[2], 4 do
    local device, silence, back = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
    local is_new = false
    if back == 0 then
        local late_s = (tonumber(call('HGET', BACK, device) or nil) or silence) - silence
        if (late_s <= 0 or late_s > DAY_S) and call('HSETNX', SILENT, device, ARGV[i + 1]) == 1 then
            call('HDEL', BACK, device)
            is_new = true
        end
    else
        local since = call('HGET', SILENT, device)
        local is_gone = not since and ARGV[i + 3] == '1'
        if is_gone then
            is_new = (tonumber(call('HGET', BACK, device) or nil) or -1) < silence
        else
            is_new = since and (tonumber(since) or 0) <= silence
        end
        if is_new then
            call('HDEL', SILENT, device)
            call('HSET', BACK, device, ARGV[i + 2])
        end
    end
    claimed[#claimed + 1] = is_new and '1' or '0'
end
for i = 3 + 4 * ARGV[2], #ARGV do
    call('HDEL', SILENT, ARGV[i])
    call('HDEL', BACK, ARGV[i])
end
return answer_of(claimed)
