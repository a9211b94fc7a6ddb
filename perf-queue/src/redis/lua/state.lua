-- What every script that moves jobs shares: the queue's state, and where its keys are.
--
-- A key that has jobs which are due is in one place of these, and else in none:
--   the ring (R)     it may start a job, as far as was known when it got there
--   the waiting (W)  it waits for its limit or the end of a penalty, by when that is over
--   the parked (P)   as many of its jobs run as may
-- Whoever takes a key out of the ring looks again, so places may be out of date, e.g. when the rules
-- have changed. Times are microseconds of the server's clock.
--
-- And: S the state (a hash), J the records of all jobs that are not done, and E their errors (by id),
-- D those that are not due yet (by when, as id, urgency and key), X the leases (by when they end, as
-- id and token), F how many jobs of a key run (only where that is limited), DZ the dead letters'
-- order and DL what they hold.
--
-- Of one key, and gone with its jobs: `q:` and `z:` its jobs that are due. Gone by expiry: `h:` until
-- when a penalty holds it, `l:` and `g:` the slots of its limit, and `r:`, by expiry from when none of
-- its jobs is due, a limit of its own that its jobs have brought. And `u:`, by expiry, a name that is
-- taken. These names are made here and not passed as KEYS; they start with the same hash tag as all
-- of KEYS, so a cluster has them in the same slot.
local S, J, E, D, X, R, W, P, F, DZ, DL = unpack(KEYS)
local base = ARGV[1]
local call, pack, sub = redis.call, struct.pack, string.sub

local clock = call('TIME')
local now = clock[1] * 1000000 + clock[2]

local fields = {'seq', 'cap', 'paused', 'hold', 'key_hold', 'limited_queue', 'limited_key',
  'queue_step', 'queue_lead', 'queue_quota', 'queue_period',
  'key_step', 'key_lead', 'key_quota', 'key_period', 'token', 'put_off', 'dropped',
  'own', 'own_since', 'key_span', 'reclaimed'}
local stored = call('HMGET', S, unpack(fields))
local state = {}
for i = 1, #fields do state[fields[i]] = tonumber(stored[i]) end

local changed = {}
local function set(field, value)
  state[field] = value
  changed[field] = true
end
local function add(field, n) set(field, (state[field] or 0) + n) end

-- To be called once, at the end.
local function save()
  local args = {}
  for field in pairs(changed) do
    args[#args + 1] = field
    args[#args + 1] = state[field]
  end
  if #args > 0 then call('HSET', S, unpack(args)) end
end

local function limit_of(scope)
  if not state[scope .. '_step'] then return nil end
  return {step = state[scope .. '_step'], lead = state[scope .. '_lead'],
    quota = state[scope .. '_quota'], period = state[scope .. '_period']}
end
local queue_limit, key_limit, cap = limit_of('queue'), limit_of('key'), state.cap

-- A limit that a job has brought for its key: from one slot to the next, how far one may be ahead, and
-- the quota and length of the window.
local function limit_in(rate)
  local step, lead, quota, period = struct.unpack('>I8I8I4I8', rate)
  return {step = step, lead = lead, quota = lead > 0 and quota or nil, period = period, keep = period}
end

-- Nothing of the key starts before.
local function hold_key(key, till)
  if till <= now then return end
  local name = base .. 'h:' .. key
  if (tonumber(call('GET', name)) or 0) < till then
    call('SET', name, till, 'PXAT', math.ceil(till / 1000))
  end
  if (state.key_hold or 0) < till then set('key_hold', till) end
end

-- The key has another limit from now on: what was granted before has to leave its period, so that its
-- windows hold.
local function move(key, period)
  local slots, log = base .. 'l:' .. key, base .. 'g:' .. key
  local last = tonumber(call('GET', slots))
  if last then
    last = tonumber(call('LINDEX', log, -1)) or last
    call('SET', slots, last, 'PXAT', math.ceil((last + period) / 1000))
    hold_key(key, last + period)
  end
  call('DEL', log)
end

-- The limit of a key: its own, unless that is older than the last change of the common one. Asked for
-- once a call and key.
local own_limits = {}
local function limit_for(key)
  if state.own ~= 1 then return key_limit end
  local known = own_limits[key]
  if known == nil then
    local own = call('GET', base .. 'r:' .. key)
    if own and struct.unpack('>I8', own) > (state.own_since or 0) then
      known = limit_in(sub(own, 9))
    else
      known = key_limit or false
      if own then call('DEL', base .. 'r:' .. key) end
      if own and key_limit then move(key, state.key_span) end
    end
    own_limits[key] = known
  end
  return known or nil
end

-- A limit keeps the slot that it gave last. Slots are `step` apart, so that is all there is to know,
-- unless some may be ahead (`lead`): then the times of the last `quota` slots are kept as well, and
-- none is given before the one `quota` places back has left the period, nor out of order.
--
-- The earliest time of the next slot, and the last one, which the caller may know.
local function slot_after(limit, name, log, last)
  last = last or tonumber(call('GET', name))
  local at = last and last + limit.step - limit.lead or 0
  if limit.quota then
    local newest = tonumber(call('LINDEX', log, -1))
    if newest and newest > at then at = newest end
    local oldest = tonumber(call('LINDEX', log, -limit.quota))
    if oldest and oldest + limit.period > at then at = oldest + limit.period end
  end
  return at, last
end

local function take_slot(limit, name, log, at, last)
  local mark = at
  if last and last + limit.step > mark then mark = last + limit.step end
  -- Forgotten as soon as a limit that knows nothing would behave the same; one that the next job may
  -- replace by another, when its grants have left the period.
  local till = math.max(mark + limit.step, limit.keep and at + limit.keep or 0)
  call('SET', name, mark, 'PXAT', math.ceil(till / 1000))
  if limit.quota then
    call('RPUSH', log, at)
    call('LTRIM', log, -limit.quota, -1)
    call('PEXPIREAT', log, math.ceil((at + limit.period) / 1000))
  end
  return mark
end

-- When the key's limit and penalties let it start a job, the last slot of the limit, and whether it
-- is the limit that puts it off.
local function key_opens(key, known)
  local hold, at, last, limit = 0, 0, nil, limit_for(key)
  -- Hardly ever is any key held, so it pays to know.
  if (state.key_hold or 0) > now then hold = tonumber(call('GET', base .. 'h:' .. key)) or 0 end
  if limit then
    at, last = slot_after(limit, base .. 'l:' .. key, base .. 'g:' .. key, known)
  end
  if hold > at then return hold, last, at > now end
  return at, last, at > now
end

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

-- The job brings this limit for its key; where it is not `new`, it counts only if the key has none any
-- more.
local function bring(key, rate, new)
  local name = base .. 'r:' .. key
  local stored = call('GET', name)
  if stored and struct.unpack('>I8', stored) <= (state.own_since or 0) then stored = nil end
  if stored and (not new or sub(stored, 9) == rate) then return end
  local before, limit = limit_for(key), limit_in(rate)
  if before then move(key, limit.period) end
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
  if state.own ~= 1 or not rec then return end
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
