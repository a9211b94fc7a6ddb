-- As `enqueue_alike.lua`, for many jobs at once: they are new, unless an earlier call added all of them and
-- its answer was lost.
-- ARGV: base, capacity, number of jobs, key, for how many milliseconds such calls may come, how many earlier
-- calls are remembered at most, the packs from the number of their jobs on. Gives 1; nothing where there is no
-- room.
local capacity, n, key = tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local FIRST, LAST, AT_ONCE = 7, #ARGV, 1000

local added = sub(ARGV[FIRST], 5, 20)
if (tonumber(call('ZSCORE', N, added)) or 0) > now then return 1 end
if all_jobs() + n > capacity then return false end

-- Those that fell due while nobody asked for a job come before these.
promote()
local ring_was_empty = call('EXISTS', R) == 0
local list, at_once, length = base .. 'q:' .. key, header(1, now, now), 0
for from = FIRST, LAST, AT_ONCE do
  local packs = {}
  for i = from, math.min(LAST, from + AT_ONCE - 1) do packs[i - from + 1] = at_once .. ARGV[i] end
  length = call('RPUSH', list, unpack(packs))
end
local packs = LAST - FIRST + 1
if length == packs and call('EXISTS', base .. 'z:' .. key) == 0 then
  if state.own == 1 then call('PERSIST', base .. 'r:' .. key) end
  place(key)
end
if n > packs then call('HINCRBY', Q, key, n - packs) end
call('ZADD', N, now + 1000 * ARGV[5], added)
call('PEXPIRE', N, ARGV[5])
local over = math.min(call('ZCARD', N) - ARGV[6], 100)
local old = math.min(call('ZCOUNT', N, '-inf', now), 100)
if math.max(over, old) > 0 then call('ZREMRANGEBYRANK', N, 0, math.max(over, old) - 1) end
add('packed', n)
save()
wake(ring_was_empty)
return 1
