-- Puts keys where they belong (the ring, the waiting, the parked: see `state.lua`), and jobs to their
-- keys: in the order in which they are to run, when they fall due, with the limits that they bring.

-- The earliest time at which something falls due that this call added.
local soonest

local function at_least(at)
  if not soonest or at < soonest then soonest = at end
end

local function wait(key, at, limited)
  call('ZADD', W, at, key)
  at_least(at)
  if limited then add('limited_key', 1) end
end

-- Puts a key that has jobs and is nowhere into its place; `free` if fewer of its jobs run than may.
local function place(key, free)
  if cap and not free and (tonumber(call('HGET', F, key)) or 0) >= cap then
    call('SADD', P, key)
    return
  end
  local at, _, limited = key_opens(key)
  if at > now then wait(key, at, limited) else call('RPUSH', R, key) end
end

-- From now on keys may have limits of their own.
local function bring_first()
  if state.own == 1 then return end
  set('own', 1)
  set('own_after', state.last or 0)
end

-- The job brings this limit for its key; where it is not `new`, it counts only if the key has none any
-- more.
local function bring(key, rate, new)
  local name = base .. 'r:' .. key
  local stored = call('GET', name)
  if stored and struct.unpack('>I8', stored) <= (state.own_since or 0) then stored = nil end
  if stored and (not new or sub(stored, 9) == rate) then return end
  if state.own_now ~= 1 then set('own_now', 1) end
  local limit = limit_in(rate)
  move(key, limit)
  call('SET', name, pack('>I8', now) .. rate)
  own_limits[key] = limit
  if call('ZREM', W, key) == 1 then place(key) end
end

-- The jobs of a key that are due: those of priority 0 in a list, since that takes the least; all
-- others in a set, of which the scores up to BEFORE_NORMAL come before the list.
local NORMAL_URGENCY, STEP = 127, 17592186044416
local BEFORE_NORMAL = string.format('(%.0f', NORMAL_URGENCY * STEP)

local function has_jobs(key)
  return call('EXISTS', base .. 'q:' .. key, base .. 'z:' .. key) > 0
end

-- Adds jobs that are due to a key: ids for its list, scores and ids in turn for its set, or nil.
local function join(key, plain, scored)
  local list, others = base .. 'q:' .. key, base .. 'z:' .. key
  local alone
  if plain then
    local n, length = #plain, 0
    for from = 1, n, 2000 do
      length = call('RPUSH', list, unpack(plain, from, math.min(n, from + 1999)))
    end
    alone = length == n
  else
    alone = call('EXISTS', list) == 0
  end
  if scored then
    local n = #scored
    for from = 1, n, 2000 do
      call('ZADD', others, unpack(scored, from, math.min(n, from + 1999)))
    end
    alone = alone and call('ZCARD', others) * 2 == n
  else
    alone = alone and call('EXISTS', others) == 0
  end
  if alone then
    if state.own == 1 then call('PERSIST', base .. 'r:' .. key) end
    place(key)
  end
end

-- Jobs that will join their keys together, in this order.
local Batch = {}
Batch.__index = Batch
local function new_batch() return setmetatable({keys = {}, plain = {}, scored = {}}, Batch) end

-- The job comes behind all jobs of the same urgency (0 for the highest priority, to 255).
function Batch:add(key, urgency, id)
  local plain, scored = self.plain[key], self.scored[key]
  if not plain and not scored then self.keys[#self.keys + 1] = key end
  if urgency == NORMAL_URGENCY then
    if not plain then
      plain = {}
      self.plain[key] = plain
    end
    plain[#plain + 1] = id
    return
  end
  if not scored then
    scored = {}
    self.scored[key] = scored
  end
  add('seq', 1)
  scored[#scored + 1] = urgency * STEP + state.seq
  scored[#scored + 1] = id
end

function Batch:join()
  for i = 1, #self.keys do
    local key = self.keys[i]
    join(key, self.plain[key], self.scored[key])
  end
end

-- A record is: attempt (4 bytes), due (8), enqueued (8), urgency (1), length of the key (4), the key,
-- and what only the client reads; except that where the first bit of what follows the key is set, the
-- limit that the job has brought for its key is behind those four bytes.
local function header(attempt, due, enqueued)
  return pack('>I4I8I8', attempt, due, enqueued)
end

-- Among the ids in a list: several jobs that were enqueued together. A pack is the header of all their records,
-- how many they are (4 bytes), their ids, and the rests of their records, each with its length (4) before it.
local function is_pack(entry) return #entry > 16 end

-- Whether these bytes have all the parts of a record.
local function is_record(rec)
  if #rec < 29 then return false end
  local at = 26 + struct.unpack('>I4', rec, 22)
  if at + 3 > #rec then return false end
  local trace = struct.unpack('>I4', rec, at)
  return at + (trace < 2147483648 and 3 or 31) + trace % 2147483648 <= #rec
end

local function key_of(rec)
  return sub(rec, 26, 25 + struct.unpack('>I4', rec, 22))
end

local function rate_of(rec)
  local from = 26 + struct.unpack('>I4', rec, 22)
  if string.byte(rec, from) < 128 then return nil end
  return sub(rec, from + 4, from + 31)
end

-- A job that was enqueued before comes back to its key, which may have forgotten its limit meanwhile.
local function bring_again(rec)
  if state.own ~= 1 or not rec or not is_record(rec) then return end
  local rate = rate_of(rec)
  if rate and struct.unpack('>I8', rec, 13) > (state.own_since or 0) then
    bring(key_of(rec), rate, false)
  end
end

-- Jobs that were scheduled and have fallen due join their keys: a thousand at most, so that any
-- number of them in one instant makes no call slow.
local function promote()
  local due = call('ZRANGEBYSCORE', D, '-inf', now, 'LIMIT', 0, 1000)
  if #due == 0 then return end
  call('ZREMRANGEBYRANK', D, 0, #due - 1)
  if state.own == 1 then
    local ids = {}
    for i = 1, #due do ids[i] = sub(due[i], 1, 16) end
    local recs = call('HMGET', J, unpack(ids))
    for i = 1, #recs do bring_again(recs[i]) end
  end
  local batch = new_batch()
  for i = 1, #due do
    batch:add(sub(due[i], 18), string.byte(due[i], 17), sub(due[i], 1, 16))
  end
  batch:join()
end

local function schedule(id, urgency, key, at)
  call('ZADD', D, at, id .. string.char(urgency) .. key)
  at_least(at)
end

local function first(set_name)
  return tonumber(call('ZRANGE', set_name, 0, 0, 'WITHSCORES')[2])
end

-- Wakes processes that sleep. A server that forbids it keeps the jobs all the same: they are found by
-- who asks again.
local function publish() redis.pcall('PUBLISH', base .. 'wake', '') end

-- Wakes processes that sleep, if they could not know of what this call added.
local function wake(ring_was_empty)
  local why = ring_was_empty and call('EXISTS', R) == 1
  if not why and soonest then why = first(W) == soonest or first(D) == soonest end
  if why and state.paused ~= 1 then publish() end
end
