-- Puts means of minutes into devices' sparklines (projector/history/sparklines.py says what these are).
--
-- KEYS: the marker, then one per device. ARGV: per device how many values come, then metric, minute and mean of each, the oldest
-- first. Returns 1, or 0 when the marker is gone: then Redis has lost what was written before.

local MINUTES, METRICS, LIFE_S = 60, 7, 7200
local NONE = struct.pack('<f', 0 / 0)
local EMPTY = NONE:rep(MINUTES)
local SIZE = 4 + #EMPTY

local function put(line, minute, mean)
    local newest = struct.unpack('<I4', line)
    local value = struct.pack('<f', mean)
    if minute > newest then
        local shift = math.min(minute - newest, MINUTES)
        return struct.pack('<I4', minute) .. line:sub(5 + 4 * shift) .. NONE:rep(shift - 1) .. value
    elseif minute > newest - MINUTES then
        local at = 5 + 4 * (MINUTES - 1 - (newest - minute))
        return line:sub(1, at - 1) .. value .. line:sub(at + 4)
    end
    return line
end

local a = 1
for k = 2, #KEYS do
    local key, size = KEYS[k], tonumber(ARGV[a])
    local lines = {}
    local known
    for i = a + 1, a + 3 * size, 3 do
        local metric, minute, mean = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
        local line = lines[metric] or redis.call('HGET', key, metric)
        if not line then
            known = known or redis.call('HLEN', key)
            if known < METRICS then
                known = known + 1
                line = struct.pack('<I4', minute) .. EMPTY
            end
        elseif #line ~= SIZE then -- somebody else's
            line = struct.pack('<I4', minute) .. EMPTY
        end
        if line then
            lines[metric] = put(line, minute, mean)
        end
    end
    for metric, line in pairs(lines) do
        redis.call('HSET', key, metric, line)
    end
    redis.call('EXPIRE', key, LIFE_S)
    a = a + 1 + 3 * size
end
return redis.call('EXISTS', KEYS[1])
