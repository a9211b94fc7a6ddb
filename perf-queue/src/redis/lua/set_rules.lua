-- ARGV: base, rules as they were given, then what the scripts need of them, empty for none; then what is
-- to be set: `1` the limit of the queue, `2` that of a key, `0` all in which this builder differs from
-- the last, so that what was set while running stays until the code changes.
local given = {
  {4, 'queue_step', 'queue_lead', 'queue_quota', 'queue_period'},
  {8, 'key_step', 'key_lead', 'key_quota', 'key_period', 'key_span'},
  {3, 'cap'}}
local which = tonumber(ARGV[13])
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
      local value = ARGV[given[i][1] + j - 2]
      if value == '' then call('HDEL', S, given[i][j]) else call('HSET', S, given[i][j], value) end
    end
  end
end
if stored[1] and not next(differs) then return 0 end
-- Another limit for the keys is that of all keys from now on, also of those that had their own.
if state.own == 1 and differs[2] then call('HSET', S, 'own_since', now) end
call('HSET', S, 'rules', table.concat(rules, ' '))
call('HINCRBY', S, 'version', 1)

-- How many jobs of each key run is not counted unless that is limited.
if rules[3] == '-' then
  call('DEL', F)
elseif not cap then
  local leases = call('ZRANGE', X, 0, -1)
  for i = 1, #leases do
    local rec = call('HGET', J, sub(leases[i], 1, 16))
    if rec then call('HINCRBY', F, key_of(rec), 1) end
  end
end
-- Every key that does not run may do so by the new rules: the next exchanges look, each at some.
if call('EXISTS', W, P) > 0 then
  call('ZUNIONSTORE', W, 2, W, P, 'WEIGHTS', 0, 0)
  call('DEL', P)
end
publish()
return 1
