-- ARGV: base, capacity, number of jobs, of those with a name, whether there are some that bring a limit
-- for their key. A job: id, key, delay, rest of its
-- record; those with a name come first, and have the name and how long it is taken before that.
local capacity, n, named = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local UNNAMED = 6 + named * 6

local function at(i)
  if i <= named then return 6 + (i - 1) * 6 + 2 end
  return UNNAMED + (i - named - 1) * 4
end

local ids = {}
for i = 1, n do ids[i] = ARGV[at(i)] end

-- Which are there already, as jobs or as dead letters.
local there = {}
for from = 1, n, 1000 do
  local to = math.min(n, from + 999)
  local jobs = call('HMGET', J, unpack(ids, from, to))
  for i = from, to do there[i] = jobs[i - from + 1] and true end
end
if call('EXISTS', DL) == 1 then
  for i = 1, n do there[i] = there[i] or call('HEXISTS', DL, ids[i]) == 1 end
end

local answer, fresh, taken = {}, {}, {}
for i = 1, named do
  if not there[i] then
    local name = ARGV[at(i) - 2]
    local holder = taken[name] or call('GET', base .. 'u:' .. name)
    if holder then
      there[i] = true
      answer[#answer + 1] = i
      answer[#answer + 1] = holder
    else
      taken[name] = ids[i]
    end
  end
end
local seen = {}
for i = 1, n do
  if not there[i] and not seen[ids[i]] then
    seen[ids[i]] = true
    fresh[#fresh + 1] = i
  end
end
if #fresh == 0 then return answer end
if all_jobs() + #fresh > capacity then return false end

-- Those that fell due while nobody asked for a job come before these.
promote()
local ring_was_empty = call('EXISTS', R) == 0
local batch, records, at_once = new_batch(), {}, header(1, now, now)
local rated = ARGV[5] == '1'
if rated then bring_first() end
for f = 1, #fresh do
  local i = fresh[f]
  local a = at(i)
  local id, key, delay, rest = ARGV[a], ARGV[a + 1], ARGV[a + 2], ARGV[a + 3]
  records[2 * f - 1] = id
  if delay == '0' then
    records[2 * f] = at_once .. rest
    batch:add(key, string.byte(rest), id)
  else
    local due = now + delay
    records[2 * f] = header(1, due, now) .. rest
    schedule(id, string.byte(rest), key, due)
  end
  local rate = rated and rate_of(records[2 * f])
  if rate then
    bring(key, rate, true)
    -- Until a job of the key is due, which is when it is to stay.
    if not has_jobs(key) then
      call('PEXPIRE', base .. 'r:' .. key, math.ceil((delay + limit_in(rate).period) / 1000))
    end
  end
  if i <= named then
    call('SET', base .. 'u:' .. ARGV[a - 2], id, 'PX', math.max(1, math.ceil(ARGV[a - 1] / 1000)))
  end
end
for from = 1, #records, 2000 do
  call('HSET', J, unpack(records, from, math.min(#records, from + 1999)))
end
batch:join()
save()
wake(ring_was_empty)
return answer
