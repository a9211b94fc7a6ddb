-- ARGV: base, the rules as they were given, then what the scripts need of them, empty for none.
local given = {'cap', 'queue_step', 'queue_lead', 'queue_quota', 'queue_period',
  'key_step', 'key_lead', 'key_quota', 'key_period', 'key_span'}
if call('HGET', S, 'rules') == ARGV[2] then return 0 end
local key_args = {ARGV[8], ARGV[9], ARGV[10], ARGV[11]}
for i = 1, #key_args do
  -- Another limit for the keys is that of all keys from now on, also of those that had their own.
  if state.own == 1 and tonumber(key_args[i]) ~= state[given[5 + i]] then
    call('HSET', S, 'own_since', now)
  end
end
for i = 1, #given do
  local value = ARGV[i + 2]
  if value == '' then call('HDEL', S, given[i]) else call('HSET', S, given[i], value) end
end
call('HSET', S, 'rules', ARGV[2])
call('HINCRBY', S, 'version', 1)

-- How many jobs of each key run is not counted unless that is limited.
if ARGV[3] == '' then
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
call('PUBLISH', base .. 'wake', '')
return 1
