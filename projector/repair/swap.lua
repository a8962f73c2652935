-- One step of putting a replica in the place of the live views; `projector/repair/swap.py` says in which order, and why it is safe.
--
-- KEYS: the lock, then those of the step.
-- ARGV: the token that the lock holds as long as the replica is ours; the step:
--   begin   marks the live set, by its epochs (one key), as neither the old set nor the new one: nothing is applied to it then
--   place   renames keys of the replica (every first one) to those of the live set (every second one)
--   remove  removes keys of the live set
--   finish  renames as `place` does, and removes what the replica has not: with the epochs goes the mark that `begin` made
-- Returns how many keys were renamed; -1 when the replica is not ours any more.

local LOCK, TOKEN, STEP = KEYS[1], ARGV[1], ARGV[2]
local call = redis.call
local renamed = 0

if call('GET', LOCK) ~= TOKEN then
    return -1
elseif STEP == 'begin' then
    if call('TYPE', KEYS[2]).ok ~= 'hash' then
        call('UNLINK', KEYS[2])
    end
    call('HSET', KEYS[2], 'unfinished', 1)
elseif STEP == 'remove' then
    call('UNLINK', unpack(KEYS, 2))
else
    for i = 2, #KEYS, 2 do
        local new, live = KEYS[i], KEYS[i + 1]
        local exists = call('EXISTS', new) == 1
        if exists or STEP == 'finish' then
            call('UNLINK', live) -- frees large ones elsewhere, which RENAME does not
        end
        if exists then
            call('RENAME', new, live)
            renamed = renamed + 1
        end
    end
end
return renamed
