-- One step of putting a replica in the place of the live views; `projector/repair/swap.py` says in which order, and why it is safe.
--
-- KEYS: the lock, the live set's epochs, then those of the step.
-- ARGV: the token that the lock holds as long as the replica is ours; how many steps were done; the step:
--   begin   marks the live set as neither the old set nor the new one: nothing is applied to it then. Takes the replica's cursors (one
--           key), and more ARGV: streams, each with where its cursor is to be
--   place   renames keys of the replica (every first one) to those of the live set (every second one)
--   remove  removes keys of the live set
--   finish  renames as `place` does, and removes what the replica has not: with the epochs goes the mark that `begin` made
-- Returns how many keys were renamed; -1 when the replica is not ours any more, or has lost something: a server that took over from
-- another, or was killed, may lack the last writes, and with them a step.

local LOCK, EPOCH, TOKEN, DONE, STEP = KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3]
local FIXED_KEYS, FIXED_ARGUMENTS = 2, 3
local call = redis.call
local renamed = 0

if call('GET', LOCK) ~= TOKEN then
    return -1
elseif STEP == 'begin' then
    if 2 * call('HLEN', KEYS[3]) ~= #ARGV - FIXED_ARGUMENTS then
        return -1
    end
    for i = FIXED_ARGUMENTS + 1, #ARGV, 2 do
        if call('HGET', KEYS[3], ARGV[i]) ~= ARGV[i + 1] then
            return -1
        end
    end
    if call('TYPE', EPOCH).ok ~= 'hash' then
        call('UNLINK', EPOCH)
    end
    call('HSET', EPOCH, 'unfinished', 1)
elseif call('HGET', EPOCH, 'swapped') ~= DONE then
    return -1
elseif STEP == 'remove' then
    call('UNLINK', unpack(KEYS, FIXED_KEYS + 1))
else
    for i = FIXED_KEYS + 1, #KEYS, 2 do
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
if STEP ~= 'finish' then
    call('HSET', EPOCH, 'swapped', DONE + 1) -- last, as a Redis that is full refuses to begin with a command that may grow
end
return renamed
