-- ARGV: base, rules as they were given, then what the scripts need of them, empty for none; then what is
-- to be set: `1` the limit of the queue, `2` that of a key, `0` all in which this builder differs from
-- the last, so that what was set while running stays until the code changes.
local given = {
  {4, 'queue_step', 'queue_lead', 'queue_quota', 'queue_period'},
  {8, 'key_step', 'key_lead', 'key_quota', 'key_period'},
  {3, 'cap'}}
local which = tonumber(ARGV[12])
local function words(line)
  local all = {}
  for word in string.gmatch(line or '- - -', '%S+') do all[#all + 1] = word end
  return all
end
local stored = call('HMGET', S, 'rules', 'built')
local new, rules, built = words(ARGV[2]), words(stored[1]), words(stored[2])
if which == 0 then call('HSET', S, 'built', ARGV[2]) end

local differs = {}
for i = 1, #given do
  local takes = which == i or which == 0 and new[i] ~= built[i]
  if takes and new[i] ~= rules[i] then
    rules[i] = new[i]
    differs[i] = true
    for j = 2, #given[i] do
      local field, value = given[i][j], ARGV[given[i][1] + j - 2]
      state[field] = tonumber(value)
      if value == '' then call('HDEL', S, field) else call('HSET', S, field, value) end
    end
  end
end
if stored[1] and not next(differs) then return 0 end
call('HSET', S, 'rules', table.concat(rules, ' '))
call('HINCRBY', S, 'version', 1)

-- Grants of the past count, so that the new limits hold in every window that ends after this. The last of
-- all, which may be a slot that is still ahead.
local last = state.last or 0
local began = math.max(now, last)

if differs[1] then
  local old, log, slot = queue_limit, nil, nil
  if old then
    old.since, old.began = state.queue_since or 0, state.queue_began or 0
    log = select(2, granted(QUEUE_NAMES, '', old.lead, old.strict))
    slot = tonumber(call('GET', QUEUE_NAMES[1]))
  end
  queue_limit = limit_of('queue', QUEUE_NAMES)
  if queue_limit then
    go_on(queue_limit, '', old, last, log, slot)
    set('queue_until', last + queue_limit.period)
  else
    call('DEL', unpack(QUEUE_NAMES))
  end
  set('queue_since', last)
  set('queue_began', began)
end

-- So many eras of the keys' limit are looked up.
local ERAS = 8

-- Until when a key waits that nobody knows of any more: it was granted nothing for a period of `old`, which
-- was in force until now.
local function fresh_after(old, new)
  if old.period >= new.period then return 0 end
  -- A burst is as if the limit were paced, and its grants later.
  local newest = old.last + (old.lead > 0 and old.period - old.step or 0)
  local paced = math.max(newest + new.step, newest + new.period - (new.quota - 1) * old.step)
  if old.since + new.period > now then return old.last + new.period end
  return math.min(paced, old.last + new.period)
end

if differs[2] then
  local old, all = key_limit, eras()
  if old then
    table.insert(all, 1, {era = state.era or 0, since = state.key_since or 0,
      began = state.key_began or 0, last = last, step = old.step, lead = old.lead,
      quota = old.quota, period = old.period, strict = old.strict})
  end
  -- What keys were granted without a limit, or by their own, or long ago, is not looked up.
  if not old or state.own_now == 1 then set('unseen', last) end
  set('own_now', 0)
  if #all > ERAS then
    set('unseen', math.max(state.unseen or 0, all[ERAS + 1].last))
    all[ERAS + 1] = nil
  end
  call('HSET', S, 'eras', cmsgpack.pack(all))
  set('era', (state.era or 0) + 1)
  key_limit = limit_of('key', names_of(state.era))
  local fresh = 0
  if key_limit then
    fresh = state.unseen and state.unseen + key_limit.period or 0
    for i = 1, #all do fresh = math.max(fresh, fresh_after(all[i], key_limit)) end
    set('key_until', last + key_limit.period)
  end
  set('key_fresh', fresh)
  set('key_since', last)
  set('key_began', fresh <= began and began or 0)
  -- It is that of all keys from now on, also of those that had their own.
  if state.own == 1 then set('own_since', now) end
end

-- How many jobs of each key run is not counted unless that is limited.
if rules[3] == '-' then
  call('DEL', F)
elseif not cap then
  spread_all()
  local leases = call('ZRANGE', X, 0, -1)
  for i = 1, #leases do
    local rec = call('HGET', J, sub(leases[i], 1, 16))
    if rec and is_record(rec) then call('HINCRBY', F, key_of(rec), 1) end
  end
end
-- Every key that does not run may do so by the new rules: the next exchanges look, each at some.
if call('EXISTS', W, P) > 0 then
  call('ZUNIONSTORE', W, 2, W, P, 'WEIGHTS', 0, 0)
  call('DEL', P)
end
save()
publish()
return 1
