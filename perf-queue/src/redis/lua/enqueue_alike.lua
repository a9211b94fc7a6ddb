-- Jobs that differ in their payloads only: of one key and priority 0, without names, delays and limits
-- of their own.
-- ARGV: base, capacity, number of jobs, key, the ids, the rests of the records. Gives 1; 0 where one
-- of them is there already, which is left to `enqueue.lua`; nothing where there is no room.
local capacity, n, key = tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local FIRST, LAST, AT_ONCE = 5, 4 + n, 1000

local letters = call('EXISTS', DL) == 1
for from = FIRST, LAST, AT_ONCE do
  local to = math.min(LAST, from + AT_ONCE - 1)
  local jobs = call('HMGET', J, unpack(ARGV, from, to))
  for i = 1, #jobs do
    if jobs[i] then return 0 end
  end
  local dead = letters and call('ZMSCORE', DZ, unpack(ARGV, from, to)) or {}
  for i = 1, #dead do
    if dead[i] then return 0 end
  end
end
if all_jobs() + n > capacity then return false end

-- Those that fell due while nobody asked for a job come before these.
promote()
local ring_was_empty = call('EXISTS', R) == 0
local list, at_once, length = base .. 'q:' .. key, header(1, now, now), 0
for from = FIRST, LAST, AT_ONCE do
  local to = math.min(LAST, from + AT_ONCE - 1)
  local records = {}
  for i = from, to do
    local r = 2 * (i - from)
    records[r + 1] = ARGV[i]
    records[r + 2] = at_once .. ARGV[i + n]
  end
  call('HSET', J, unpack(records))
  length = call('RPUSH', list, unpack(ARGV, from, to))
end
if length == n and call('EXISTS', base .. 'z:' .. key) == 0 then place(key) end
save()
wake(ring_was_empty)
return 1
