-- ARGV: base, how many jobs are wanted, within what time, for how long they are leased, how many
-- dead letters are kept, how many jobs are done, of how many batches some are, how many jobs ended otherwise,
-- the lowest token of those that are done and in no batch, whether there must be rules, then those jobs.
local want, within, lease = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local done, batches, other = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
letters_kept = tonumber(ARGV[5])
if ARGV[10] == '1' and not state.version then
  -- Without them nothing would be limited.
  return redis.error_reply('NORULES the limits of the queue are forgotten')
end
local horizon = now + within
local ring_was_empty = call('EXISTS', R) == 0

local lowest, next_ended = tonumber(ARGV[9]), 11 + done
for from = 11, 10 + done, 1000 do
  settle_done({unpack(ARGV, from, math.min(10 + done, from + 999))}, lowest)
end
for _ = 1, batches do next_ended = settle_batch(next_ended) end
for i = 0, other - 1 do settle_other(next_ended + 6 * i) end
reclaim()
promote()

-- Grants go forward in time, from now to the horizon, each at the time `t` of its slot.
local t = now
local ids, starts, count = {}, {}, 0
local queue_last, opens = nil, state.hold or 0
if queue_limit then
  local slot
  slot, queue_last = slot_after(queue_limit, '')
  opens = math.max(opens, slot)
end

-- The ring's keys as far as they were taken out of it; those that were served go to its end.
local ring, at, served = {}, 1, {}
local share, columns = 1, {}
-- Keys looked at, and keys brought back from waiting: bounded, however many turn out not to be
-- ready.
local visits, returns = want + 1000, 1000
local waiting = first(W)
local full, put_off = false, false
-- Whether a pack was left because it does not fit: this is the last round then.
local short = false
-- Whether a limit gave one of the jobs its slot.
local slotted = queue_limit and true or false

-- Of a round in which each key gave several jobs: one of each key in turn.
local function deal()
  if #columns == 1 and #ids == 0 then
    ids, columns = columns[1], {}
    return
  end
  for row = 1, share do
    for c = 1, #columns do
      local id = columns[c][row]
      if id then ids[#ids + 1] = id end
    end
  end
  columns = {}
end

-- Whether the key has to wait beyond `t`; if not, the last slot of its limit.
local function has_to_wait(key, known)
  if not key_limit and state.own ~= 1 and (state.key_hold or 0) <= now then return false end
  local key_at, last, limited = key_opens(key, known)
  if key_at <= t then return false, last end
  wait(key, key_at, limited)
  if not waiting or key_at < waiting then waiting = key_at end
  return true
end

-- The first jobs of the key, taken out of it: ids and packs, how many jobs that is, and whether a pack was left.
local function take_jobs(key, n)
  local others = base .. 'z:' .. key
  if call('EXISTS', others) == 0 then return pop(key, n) end
  local jobs = call('ZRANGEBYSCORE', others, '-inf', BEFORE_NORMAL, 'LIMIT', 0, n)
  if #jobs > 0 then call('ZREMRANGEBYRANK', others, 0, #jobs - 1) end
  local got = #jobs
  if got < n then
    local some, more, left = pop(key, n - got)
    for i = 1, #some do jobs[#jobs + 1] = some[i] end
    got = got + more
    if left then return jobs, got, true end
  end
  if got < n then
    local some = call('ZPOPMIN', others, n - got)
    for i = 1, #some, 2 do jobs[#jobs + 1] = some[i] end
    got = got + #some / 2
  end
  return jobs, got
end

local function visit(key)
  local waits, last = has_to_wait(key)
  if waits then return end
  local take = math.min(share, want - count)
  local running = 0
  if cap then
    running = tonumber(call('HGET', F, key)) or 0
    if running >= cap then
      call('SADD', P, key)
      return
    end
    take = math.min(take, cap - running)
  end
  local jobs, got, left = take_jobs(key, take)
  if got == 0 then return end
  short = short or left
  count = count + got
  columns[#columns + 1] = jobs
  if cap then call('HINCRBY', F, key, got) end
  if queue_limit then
    queue_last = take_slot(queue_limit, '', t, queue_last)
    -- In parentheses it is the first of the two results alone.
    opens = math.max(opens, (slot_after(queue_limit, '', queue_last)))
    if put_off and state.put_off ~= 1 then add('limited_queue', 1) end
  end
  if state.put_off == 1 then set('put_off', 0) end
  put_off = false
  local limit = limit_for(key)
  if limit then
    last = take_slot(limit, key, t, last)
    slotted = true
  end
  if t > now then
    for i = #starts + 1, count - got do starts[i] = 0 end
    for i = count - got + 1, count do starts[i] = t - now end
  end
  if (got < take and not left) or not has_jobs(key) then
    if limit and limit.own then
      local till = math.max(last + limit.step, t + limit.period)
      call('PEXPIREAT', base .. 'r:' .. key, expiry(till))
    end
    return
  end
  if cap and running + got >= cap then
    call('SADD', P, key)
    return
  end
  if not has_to_wait(key, last) then served[#served + 1] = key end
end

while state.paused ~= 1 and count < want and visits > 0 do
  if opens > t then
    if opens > horizon then
      full = call('EXISTS', R) == 1 or at <= #ring or #served > 0
      break
    end
    t = opens
    put_off = true
  end
  if waiting and waiting <= t and returns > 0 then
    local keys = call('ZRANGEBYSCORE', W, '-inf', t, 'LIMIT', 0, returns)
    if #keys > 0 then
      call('ZREMRANGEBYRANK', W, 0, #keys - 1)
      call('RPUSH', R, unpack(keys))
      returns = returns - #keys
    end
    waiting = first(W)
  end
  if at > #ring then
    deal()
    if short then
      want = count
      break
    end
    ring, at = call('LPOP', R, math.min(want - count, 1000)) or {}, 1
    if #ring == 0 then ring, served = served, {} end
    if queue_limit or key_limit or state.own == 1 then
      share = 1
    else
      share = math.max(1, math.floor((want - count) / math.max(1, #ring)))
    end
  end
  local key = ring[at]
  if key then
    at = at + 1
    visits = visits - 1
    visit(key)
  elseif waiting and waiting <= horizon and returns > 0 then
    if waiting > t then t = waiting end
  else
    break
  end
end
deal()
local back = {}
for i = #ring, at, -1 do back[#back + 1] = ring[i] end
if #back > 0 then call('LPUSH', R, unpack(back)) end
for from = 1, #served, 1000 do
  call('RPUSH', R, unpack(served, from, math.min(#served, from + 999)))
end
if full and state.put_off ~= 1 then
  add('limited_queue', 1)
  set('put_off', 1)
end

local recs, errors, token = {}, {}, 0
if count > 0 then
  -- Above the clock as well, so that a server that forgot its last second gives none twice.
  token = math.max((state.token or 0) + 1, now)
  set('token', token + count)
  set('last', math.max(state.last or 0, t))
  local failed = call('EXISTS', E) == 1
  local till = string.format('%.0f', now + lease)
  local single
  ids, single = lease_packs(ids, token, till)
  local broken = false
  for from = 1, #single, 1000 do
    local to = math.min(#single, from + 999)
    local some, leases = call('HMGET', J, unpack(single, from, to)), {}
    for i = from, to do
      recs[i] = some[i - from + 1]
      local l = 2 * (i - from)
      leases[l + 1] = till
      leases[l + 2] = pack('>c16I8', single[i], token + i - 1)
    end
    for i = from, to do
      if recs[i] and not is_record(recs[i]) then
        bury_record(single[i], recs[i])
        recs[i] = false
        broken = true
      end
    end
    call('ZADD', X, unpack(leases))
    if failed then
      some = call('HMGET', E, unpack(single, from, to))
      for i = from, to do errors[i] = some[i - from + 1] end
    end
  end
  if broken then recount_flight() end
end

-- When it is worth to ask again: at the time of the next slot less the time within which it may be
-- had ahead; for what falls due then.
local next_at = -1
local function soon(time)
  if time and (next_at < 0 or time < next_at) then next_at = math.max(time, now) end
end
if state.paused ~= 1 then
  local ready = call('EXISTS', R) == 1
  if ready then soon(now) end
  waiting = first(W)
  soon(waiting and waiting - within)
  soon(first(D))
  soon(first(X))
  soon(first(B))
  if next_at >= 0 then next_at = math.max(next_at, opens - within) - now end
  -- Others may have what this process has no use for.
  if want == 0 then
    wake(ring_was_empty)
  elseif ready and ring_was_empty and count >= want then
    soonest = nil
    wake(true)
  end
end
save()
return {{now, next_at, state.paused == 1 and 1 or 0, state.limited_queue or 0,
  state.limited_key or 0, token, slotted and 1 or 0, state.dropped or 0,
  unreadable},
  lost, ids, recs, errors, starts}
