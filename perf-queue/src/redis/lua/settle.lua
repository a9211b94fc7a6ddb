-- Ends jobs.
local lost = {}

-- The same as `settle_checked`, and half its work, where nobody was put in the place of the holders.
-- Fewer leases than were given: this was told before, and its answer lost, so that those jobs are
-- gone; or the server forgot its last second, and a job that was done is done.
local function settle_held(leases)
  local ids = {}
  for i = 1, #leases do ids[i] = sub(leases[i], 1, 16) end
  local held = call('ZREM', X, unpack(leases))
  if held < #ids then
    local recs, left = call('HMGET', J, unpack(ids)), {}
    for i = 1, #ids do
      local there = held > 0 and recs[i]
      local list = there and left or lost
      list[#list + 1] = ids[i]
    end
    ids = left
    if #ids == 0 then return end
  end
  call('HDEL', J, unpack(ids))
  if call('EXISTS', E) == 1 then call('HDEL', E, unpack(ids)) end
end

local function settle_checked(given)
  local scores = call('ZMSCORE', X, unpack(given))
  local leases, ids = {}, {}
  for i = 1, #given do
    local id = sub(given[i], 1, 16)
    if scores[i] then
      leases[#leases + 1] = given[i]
      ids[#ids + 1] = id
    else
      lost[#lost + 1] = id
    end
  end
  if #ids == 0 then return end
  local recs = cap and call('HMGET', J, unpack(ids))
  call('ZREM', X, unpack(leases))
  call('HDEL', J, unpack(ids))
  if call('EXISTS', E) == 1 then call('HDEL', E, unpack(ids)) end
  for i = 1, #ids do
    if cap and recs[i] then
      if is_record(recs[i]) then leave_flight(key_of(recs[i])) else recount_flight() end
    end
  end
end

-- A thousand of them at most; `lowest` is no higher than the lowest token of them.
local function settle_done(leases, lowest)
  if cap or lowest <= (state.reclaimed or 0) then
    settle_checked(leases)
  else
    settle_held(leases)
  end
end

-- ARGV from `a` on: a batch, and how many runs of its jobs are done, each as the number of the first, from 0,
-- and their ids. Gives where what comes after it begins.
local function settle_batch(a)
  local batch, last = ARGV[a], a + 2 * ARGV[a + 1]
  local name, ended, others = base .. 'i:' .. batch, 0, {}
  for r = a + 2, last, 2 do
    local from, ids = 16 * ARGV[r], ARGV[r + 1]
    local held = call('GETRANGE', name, from, from + #ids - 1)
    if held == ids then
      call('SETRANGE', name, from, string.rep('\0', #ids))
      ended = ended + #ids / 16
    else
      for at = 0, #ids - 1, 16 do
        local id = sub(ids, at + 1, at + 16)
        if sub(held, at + 1, at + 16) == id then
          call('SETRANGE', name, from + at, string.rep('\0', 16))
          ended = ended + 1
        else
          others[#others + 1] = pack('>c16I8', id, batch + (from + at) / 16)
        end
      end
    end
  end
  if ended > 0 then
    add('batched', -ended)
    if call('BITCOUNT', name) == 0 then forget_batch(batch) end
  end
  -- Those that were told before, or have got leases of their own.
  for from = 1, #others, 1000 do
    settle_done({unpack(others, from, math.min(#others, from + 999))}, tonumber(batch))
  end
  return last + 2
end

-- ARGV from `a` on: a lease, its batch if any, what becomes of the job, after how long, what it stops, its
-- error.
local function settle_other(a)
  local lease, batch, how, after, scope, message = unpack(ARGV, a, a + 5)
  if batch ~= '' then spread(batch) end
  local id = sub(lease, 1, 16)
  if call('ZREM', X, lease) == 0 then
    lost[#lost + 1] = id
    return
  end
  local rec = call('HGET', J, id)
  if not rec then return end
  if not is_record(rec) then
    bury_record(id, rec)
    return recount_flight()
  end
  local key = key_of(rec)
  if how == 'dead' then
    bury(id, rec, message)
    leave_flight(key)
    return
  end
  if how == 'release' then
    bring_again(rec)
    rejoin_first(key, id, lease)
    return
  end
  local attempt, due = struct.unpack('>I4', rec), now + after
  if how == 'retry' then
    attempt = attempt + 1
    call('HSET', E, id, errors_with(id, message))
  end
  call('HSET', J, id, pack('>I4I8', attempt, due) .. sub(rec, 13))
  if scope == 'key' then
    hold_key(key, due)
    add('limited_key', 1)
  elseif scope == 'queue' and due > (state.hold or 0) then
    set('hold', due)
  end
  if cap == 1 then
    hold_key(key, due)
    bring_again(rec)
    rejoin_first(key, id, lease)
  else
    schedule(id, string.byte(rec, 21), key, due)
    leave_flight(key)
  end
end
