-- Ends of leases. A lease is in X by when it ends, as the job's id and 8 bytes of its token; those of packs
-- are in B.

-- One job less of the key runs.
local function leave_flight(key)
  if not cap then return end
  local n = call('HINCRBY', F, key, -1)
  if n <= 0 then call('HDEL', F, key) end
  if n < cap and call('SREM', P, key) == 1 then place(key, true) end
end

-- The key of a job that ran cannot be known: counts again which run.
local function recount_flight()
  if not cap then return end
  call('DEL', F)
  for _, lease in ipairs(call('ZRANGE', X, 0, -1)) do
    local rec = call('HGET', J, sub(lease, 1, 16))
    if rec and is_record(rec) then call('HINCRBY', F, key_of(rec), 1) end
  end
  -- The next exchanges look at each.
  if call('EXISTS', P) == 1 then
    call('ZUNIONSTORE', W, 2, W, P, 'WEIGHTS', 1, 0)
    call('DEL', P)
  end
end

-- The job is first of its key again. Several such go by the order in which they were leased.
local function rejoin_first(key, id, lease)
  leave_flight(key)
  join(key, nil, {struct.unpack('>I8', lease, 17) - 4503599627370496, id})
end

-- Leases that nobody prolonged: their jobs run again, as the next attempt since the process may
-- have died of it. A thousand at most, so that any number of them in one instant makes no call slow.
local function reclaim()
  local batches, jobs = call('ZRANGEBYSCORE', B, '-inf', now, 'LIMIT', 0, 1000), 0
  for i = 1, #batches do
    if jobs >= 1000 then break end
    jobs = jobs + call('STRLEN', base .. 'i:' .. batches[i]) / 16
    spread(batches[i])
  end
  local over = call('ZRANGEBYSCORE', X, '-inf', now, 'WITHSCORES', 'LIMIT', 0, 1000)
  if #over == 0 then return end
  call('ZREMRANGEBYRANK', X, 0, #over / 2 - 1)
  local ids, highest = {}, state.reclaimed or 0
  for i = 1, #over, 2 do
    ids[#ids + 1] = sub(over[i], 1, 16)
    highest = math.max(highest, (struct.unpack('>I8', over[i], 17)))
  end
  -- Whoever holds a later lease holds it still.
  set('reclaimed', highest)
  local recs = call('HMGET', J, unpack(ids))
  local records, buried = {}, false
  for i = 1, #ids do
    local rec = recs[i]
    if rec and not is_record(rec) then
      bury_record(ids[i], rec)
      buried = true
    elseif rec then
      local attempt = struct.unpack('>I4', rec)
      records[#records + 1] = ids[i]
      records[#records + 1] = pack('>I4I8', attempt + 1, over[2 * i]) .. sub(rec, 13)
      bring_again(rec)
      rejoin_first(key_of(rec), ids[i], over[2 * i - 1])
    end
  end
  if #records > 0 then call('HSET', J, unpack(records)) end
  if buried then recount_flight() end
end
