-- Limits. A limiter keeps, gone by expiry when its last grant has left the period: its last slot, and where
-- it is `strict`, the times of the last `quota` grants, which is the log. Slots are `step` apart, so that
-- the last one is all there is to know; unless some may be ahead of theirs (`lead`), or grants by another
-- limit are still in the period: then no grant is given before the one `quota` places back has left the
-- period, nor out of order.
--
-- The limiters of keys carry the number of the keys' limit (`era`) in their names, so that another limit
-- begins a new era and touches no key: what a key was granted in eras before is looked up when it is asked
-- for first. Limits that jobs bring have an era of their own, which is `o`.
local function limit(step, lead, quota, period, strict, prefix)
  return {step = step, lead = lead, quota = quota, period = period, strict = strict,
    slots = prefix[1], log = prefix[2]}
end

local function names_of(era) return {base .. 'l' .. era .. ':', base .. 'g' .. era .. ':'} end

local function limit_of(scope, prefix)
  if not state[scope .. '_step'] then return nil end
  return limit(state[scope .. '_step'], state[scope .. '_lead'], state[scope .. '_quota'],
    state[scope .. '_period'],
    state[scope .. '_lead'] > 0 or (state[scope .. '_until'] or 0) > now, prefix)
end
local QUEUE_NAMES = {base .. 'slot', base .. 'log'}
local queue_limit = limit_of('queue', QUEUE_NAMES)
local key_limit = limit_of('key', names_of(state.era or 0))
local cap = state.cap

-- A limit that a job has brought for its key.
local OWN_NAMES = names_of('o')
local function limit_in(rate)
  local step, lead, quota, period = struct.unpack('>I8I8I4I8', rate)
  local own = limit(step, lead, quota, period, lead > 0, OWN_NAMES)
  own.own = true
  return own
end

-- Nothing of the key starts before.
local function hold_key(key, till)
  if till <= now then return end
  local name = base .. 'h:' .. key
  if (tonumber(call('GET', name)) or 0) < till then
    call('SET', name, till, 'PXAT', expiry(till))
  end
  if (state.key_hold or 0) < till then set('key_hold', till) end
end

-- As large a quota is counted grant by grant where the limit becomes another; a larger one begins when the
-- last grant has left its period.
local COUNTED = 10000

-- The limiter's last grant and the log, newest first, as far as they are kept.
local function granted(names, key, lead, strict)
  local log = strict and call('LRANGE', names[2] .. key, -COUNTED, -1) or {}
  local n = #log
  for i = 1, math.floor(n / 2) do log[i], log[n + 1 - i] = log[n + 1 - i], log[i] end
  for i = 1, n do log[i] = tonumber(log[i]) end
  local last = log[1]
  if not last then
    last = tonumber(call('GET', names[1] .. key))
    -- The slots of bursts are ahead of the grants.
    if last then last = last - lead end
  end
  return last, log
end

-- The latest times at which the grants of a limiter can have been, newest first, as far as they are in the
-- period of a `new` limit: as they were noted, or else as `old` let them be, which was in force for all
-- grants after `since`; where it began with a log of all in its period, that was at `began`.
local function latest(new, old, last, log)
  local times, noted, at = {}, #log, last
  while #times < new.quota and at + new.period > now do
    local n = #times + 1
    times[n] = at
    if n < noted then
      at = log[n + 1]
    else
      local sooner = at
      if old.lead == 0 then sooner = at - old.step end
      if n >= old.quota then sooner = math.min(sooner, times[n - old.quota + 1] - old.period) end
      sooner = math.max(sooner, old.since)
      -- A log that is not full begins with the limit, or where nothing was in the period.
      if n == noted and n < old.quota and old.began > 0 then
        sooner = math.min(sooner, math.max(at, old.began) - old.period)
      end
      at = math.min(at, sooner)
    end
  end
  return times
end

-- The limiter goes on by the limit `new`, after grants by `old`; nil where there was none. Gives its last
-- slot.
local function go_on(new, key, old, last, log, slot)
  local slots, name = new.slots .. key, new.log .. key
  call('DEL', slots, name)
  if last + new.period <= now then return nil end
  if old and new.quota <= COUNTED then
    local times = latest(new, old, last, log)
    local oldest_first = {}
    for i = #times, 1, -1 do oldest_first[#oldest_first + 1] = times[i] end
    for from = 1, #oldest_first, 5000 do
      call('RPUSH', name, unpack(oldest_first, from, math.min(#oldest_first, from + 4999)))
    end
    call('PEXPIREAT', name, expiry(last + new.period))
    -- Slots taken ahead at the old pace do not bind at the new.
    slot = math.min(slot or last, last + new.lead)
  else
    slot = last + new.period - new.step + new.lead
  end
  call('SET', slots, slot, 'PXAT', expiry(last + new.period + new.lead))
  return slot
end

-- The eras of the keys' limit that are over, the newest first.
local past_eras
local function eras()
  if not past_eras then
    local stored = call('HGET', S, 'eras')
    past_eras = stored and cmsgpack.unpack(stored) or {}
  end
  return past_eras
end

-- The last slot of a key which in this era has none yet.
local function slot_of_past(key)
  for _, old in ipairs(eras()) do
    -- It may have been granted something since that nobody knows of.
    if old.last < (state.unseen or 0) then break end
    if old.last + key_limit.period > now then
      local names = names_of(old.era)
      local mark = tonumber(call('GET', names[1] .. key))
      if mark then
        local last, log = granted(names, key, old.lead, old.strict)
        local slot = go_on(key_limit, key, old, last, log, mark)
        call('DEL', names[1] .. key, names[2] .. key)
        return slot
      end
      if old.period < key_limit.period then break end
    end
  end
  -- Not before, nor a burst then.
  local spent = (state.key_fresh or 0) + key_limit.lead
  return spent > now and spent - key_limit.step or nil
end

local function last_slot(limit, key)
  local last = tonumber(call('GET', limit.slots .. key))
  if not last and limit == key_limit and (state.key_until or 0) > now then
    last = slot_of_past(key)
  end
  return last
end

-- The earliest time of the next slot, and the last one, which the caller may know.
local function slot_after(limit, key, last)
  last = last or last_slot(limit, key)
  local at = last and last + limit.step - limit.lead or 0
  if limit.strict then
    local log = limit.log .. key
    local newest = tonumber(call('LINDEX', log, -1))
    if newest and newest > at then at = newest end
    local oldest = tonumber(call('LINDEX', log, -limit.quota))
    if oldest and oldest + limit.period > at then at = oldest + limit.period end
  end
  return at, last
end

local function take_slot(limit, key, at, last)
  local mark = at
  if last and last + limit.step > mark then mark = last + limit.step end
  local till = math.max(mark + limit.step, at + limit.period)
  call('SET', limit.slots .. key, mark, 'PXAT', expiry(till))
  if limit.strict then
    local log = limit.log .. key
    call('RPUSH', log, at)
    call('LTRIM', log, -limit.quota, -1)
    call('PEXPIREAT', log, expiry(at + limit.period))
  end
  return mark
end

-- From now on the key has the limit `new`, of its own or not: what it was granted before has to leave the
-- period.
local function move(key, new)
  local last = granted(OWN_NAMES, key, 0, true)
  if key_limit then
    if last_slot(key_limit, key) then
      local names = {key_limit.slots, key_limit.log}
      local common = granted(names, key, key_limit.lead, key_limit.strict) or state.key_since or 0
      if common > (last or 0) then last = common end
    end
    call('DEL', key_limit.slots .. key, key_limit.log .. key)
  end
  call('DEL', OWN_NAMES[1] .. key, OWN_NAMES[2] .. key)
  if not last and new.own then last = state.own_after end
  if last and last + new.period > now then
    call('SET', new.slots .. key, last, 'PXAT', expiry(last + new.period))
    hold_key(key, last + new.period)
  end
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
      if own and key_limit then move(key, key_limit) end
    end
    own_limits[key] = known
  end
  return known or nil
end

-- When the key's limit and penalties let it start a job, the last slot of the limit, and whether it
-- is the limit that puts it off.
local function key_opens(key, known)
  local hold, at, last, limit = 0, 0, nil, limit_for(key)
  -- Hardly ever is any key held, so it pays to know.
  if (state.key_hold or 0) > now then hold = tonumber(call('GET', base .. 'h:' .. key)) or 0 end
  if limit then at, last = slot_after(limit, key, known) end
  if hold > at then return hold, last, at > now end
  return at, last, at > now
end
