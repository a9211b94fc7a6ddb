-- How many jobs are where. Looks at no more keys than this, so that no number of them makes it slow;
-- where there are more, it estimates.
local AT_MOST = 1000

local later_than_now = string.format('(%.0f', now)
local flight, letters = call('ZCARD', X) + (state.batched or 0), call('ZCARD', DZ)
local scheduled = call('ZCOUNT', D, later_than_now, '+inf')
local due = all_jobs() - flight - scheduled

local function jobs_of(keys)
  local n = 0
  for i = 1, #keys do
    n = n + call('LLEN', base .. 'q:' .. keys[i]) + call('ZCARD', base .. 'z:' .. keys[i])
    if (state.packed or 0) > 0 then n = n + (call('HGET', Q, keys[i]) or 0) end
  end
  return n
end

local later = call('ZRANGEBYSCORE', W, later_than_now, '+inf', 'LIMIT', 0, AT_MOST)
local parked = call('SRANDMEMBER', P, AT_MOST)
local n_later, n_parked = call('ZCOUNT', W, later_than_now, '+inf'), call('SCARD', P)
local opens = state.hold or 0
if queue_limit then
  opens = math.max(opens, (slot_after(queue_limit, '')))
end
local limited
if opens > now then
  limited = due
elseif n_later <= AT_MOST and n_parked <= AT_MOST then
  limited = jobs_of(later) + jobs_of(parked)
elseif call('LLEN', R) <= AT_MOST then
  limited = due - jobs_of(call('LRANGE', R, 0, -1))
else
  limited = 0
  if n_later > 0 then limited = jobs_of(later) * n_later / #later end
  if n_parked > 0 then limited = limited + jobs_of(parked) * n_parked / #parked end
end
limited = math.max(0, math.min(due, math.floor(limited)))

local oldest = first(D)
local function is_due(job)
  local at = job and #job >= 12 and struct.unpack('>I8', job, 5)
  if at and (not oldest or at < oldest) then oldest = at end
end
local function look_at(keys)
  local ids = {}
  for i = 1, #keys do
    local next_one = call('LINDEX', base .. 'q:' .. keys[i], 0)
    if next_one and is_pack(next_one) then
      is_due(next_one)
    elseif next_one then
      ids[#ids + 1] = next_one
    end
    ids[#ids + 1] = call('ZRANGE', base .. 'z:' .. keys[i], 0, 0)[1]
  end
  if #ids == 0 then return end
  local recs = call('HMGET', J, unpack(ids))
  for i = 1, #recs do is_due(recs[i]) end
end
look_at(call('LRANGE', R, 0, AT_MOST - 1))
look_at(call('ZRANGE', W, 0, AT_MOST - 1))
look_at(parked)
local age = oldest and oldest <= now and due > 0 and now - oldest or -1
return {due - limited, scheduled, limited, flight, letters, age, state.paused == 1 and 1 or 0,
  state.dropped or 0}
