-- Packs, and their leases: a fraction of the work that as many jobs make one by one. B has such leases by when
-- they end, each of some packs and named by the token of their first job; those of the others follow it. `b:` is
-- the packs, and `i:` the ids of their jobs, with zeros in place of those that are not leased by it any more.
-- What is not just taken and done as a whole is taken apart: jobs, and leases, like all others.
local NOBODY = string.rep('\0', 16)

local function size_of(packed) return (struct.unpack('>I4', packed, 21)) end

local function ids_of(packed) return sub(packed, 25, 24 + 16 * size_of(packed)) end

-- Whether it can have as many jobs as it says.
local function has_ids(packed)
  if #packed < 24 then return false end
  local n = size_of(packed)
  return n > 0 and 24 + 20 * n <= #packed
end

-- What it consists of: ids and records. Nil if it cannot be read.
local function unpacked(packed)
  if not has_ids(packed) then return nil end
  local n, head = size_of(packed), sub(packed, 1, 20)
  local ids, records, at = {}, {}, 25 + 16 * n
  for i = 1, n do
    if at + 3 > #packed then return nil end
    local till = at + 3 + struct.unpack('>I4', packed, at)
    local rec = head .. sub(packed, at + 4, till)
    if till > #packed or not is_record(rec) then return nil end
    ids[i] = sub(packed, 16 * i + 9, 16 * i + 24)
    records[i] = rec
    at = till + 1
  end
  return ids, records
end

-- So many packs, of so many jobs, left the key's list.
local function fewer_packs(key, n, jobs)
  add('packed', -jobs)
  if call('HINCRBY', Q, key, n - jobs) == 0 then call('HDEL', Q, key) end
end

-- Packs of the key that cannot be read are gone, so what they counted for is not known: counts again.
local function recount(key, gone)
  local jobs, packs = 0, 0
  for _, entry in ipairs(call('LRANGE', base .. 'q:' .. key, 0, -1)) do
    if is_pack(entry) then
      packs = packs + 1
      jobs = jobs + (has_ids(entry) and size_of(entry) or 1)
    end
  end
  local before = (tonumber(call('HGET', Q, key)) or 0) + packs + gone
  add('packed', jobs - before)
  if jobs > packs then call('HSET', Q, key, jobs - packs) else call('HDEL', Q, key) end
end

-- Puts the jobs of a pack that left the key's list back one by one. False if it cannot be read.
local function take_apart(key, packed)
  local ids, records = unpacked(packed)
  if not ids then return false end
  local fields, last_first = {}, {}
  for i = 1, #ids do
    fields[2 * i - 1] = ids[i]
    fields[2 * i] = records[i]
    last_first[#ids + 1 - i] = ids[i]
  end
  call('HSET', J, unpack(fields))
  call('LPUSH', base .. 'q:' .. key, unpack(last_first))
  fewer_packs(key, 1, #ids)
  return true
end

-- Up to `n` jobs from the start of the key's list, as ids and packs, and how many jobs that is. A pack that does
-- not fit behind others is left there, since its jobs would be leased one by one, and all before them as well:
-- then also true.
local function pop(key, n)
  local list = base .. 'q:' .. key
  if (state.packed or 0) == 0 then
    local ids = call('LPOP', list, n) or {}
    return ids, #ids
  end
  local entries, got, packs, packed, gone = {}, 0, 0, 0, 0
  local left = false
  -- Where there are no packs, or those of one job alone, entries are jobs.
  local at_once = call('HEXISTS', Q, key) == 0 and call('LPOP', list, n) or {}
  local next_one = 0
  while got < n do
    next_one = next_one + 1
    local entry = at_once[next_one] or call('LPOP', list)
    if not entry then break end
    local size = is_pack(entry) and has_ids(entry) and size_of(entry) or 1
    if is_pack(entry) and size == 1 then
      local ids, records = unpacked(entry)
      if ids then
        call('HSET', J, ids[1], records[1])
        entries[#entries + 1] = ids[1]
        got = got + 1
        packs = packs + 1
        packed = packed + 1
      else
        bury_pack(key, entry)
        gone = gone + 1
      end
    elseif is_pack(entry) and packs > 0 and got + size > n and #at_once == 0 then
      call('LPUSH', list, entry)
      left = true
      break
    -- How many jobs of a key run is counted job by job.
    elseif is_pack(entry) and (cap or got + size > n) then
      if not take_apart(key, entry) then
        bury_pack(key, entry)
        gone = gone + 1
      end
    else
      entries[#entries + 1] = entry
      got = got + size
      if is_pack(entry) then
        packs = packs + 1
        packed = packed + size
      end
    end
  end
  if packs > 0 then fewer_packs(key, packs, packed) end
  if gone > 0 then recount(key, gone) end
  return entries, got, left
end

-- Leases the packs that come after all other entries, with tokens after those of the others: jobs that come
-- back go by their tokens, so these are in the order of the entries. Packs before are taken apart. Gives the
-- entries as they are then, and those that are jobs. One that cannot be read is left out, or leased all the
-- same, since who has it cannot read it either, until its lease ends.
local function lease_packs(entries, token, till)
  local last = 0
  for i = 1, #entries do
    if not is_pack(entries[i]) then last = i end
  end
  local all, single, packs, held = {}, {}, {}, {}
  for i = 1, #entries do
    local entry = entries[i]
    if not is_pack(entry) then
      single[#single + 1] = entry
      all[#all + 1] = entry
    elseif i < last then
      local ids, records = unpacked(entry)
      local fields = {}
      for j = 1, #(ids or {}) do
        fields[2 * j - 1] = ids[j]
        fields[2 * j] = records[j]
        single[#single + 1] = ids[j]
        all[#all + 1] = ids[j]
      end
      if ids then call('HSET', J, unpack(fields)) else bury_pack('', entry) end
    else
      packs[#packs + 1] = entry
      held[#held + 1] = ids_of(entry)
      all[#all + 1] = entry
    end
  end
  if #packs > 0 then
    local batch, ids = string.format('%.0f', token + #single), table.concat(held)
    call('SET', base .. 'b:' .. batch, cmsgpack.pack(packs))
    call('SET', base .. 'i:' .. batch, ids)
    call('ZADD', B, till, batch)
    add('batched', #ids / 16)
  end
  return all, single
end

local function forget_batch(batch)
  call('DEL', base .. 'b:' .. batch, base .. 'i:' .. batch)
  call('ZREM', B, batch)
end

-- Gives each job that is leased by it a lease of its own, which ends then as well.
local function spread(batch)
  local till = call('ZSCORE', B, batch)
  if not till then return end
  local held, packs = call('GET', base .. 'i:' .. batch), call('GET', base .. 'b:' .. batch)
  if not held or not packs then
    -- Evicted or deleted: the jobs are gone, which must not keep the others.
    for at = 1, #(held or ''), 16 do
      if sub(held, at, at + 15) ~= NOBODY then add('batched', -1) end
    end
    return forget_batch(batch)
  end
  local token, n = tonumber(batch), 0
  for _, packed in ipairs(cmsgpack.unpack(packs)) do
    local ids, records = unpacked(packed)
    local fields, leases = {}, {}
    if not ids then
      for i = 1, size_of(packed) do
        if sub(held, 16 * n + 1, 16 * n + 16) ~= NOBODY then add('batched', -1) end
        n = n + 1
      end
      bury_pack('', packed)
    end
    for i = 1, #(ids or {}) do
      if sub(held, 16 * n + 1, 16 * n + 16) ~= NOBODY then
        fields[#fields + 1] = ids[i]
        fields[#fields + 1] = records[i]
        leases[#leases + 1] = till
        leases[#leases + 1] = pack('>c16I8', ids[i], token + n)
      end
      n = n + 1
    end
    if #fields > 0 then
      call('HSET', J, unpack(fields))
      call('ZADD', X, unpack(leases))
      add('batched', -#fields / 2)
    end
  end
  forget_batch(batch)
end

local function spread_all()
  local batches = call('ZRANGE', B, 0, -1)
  for i = 1, #batches do spread(batches[i]) end
end
