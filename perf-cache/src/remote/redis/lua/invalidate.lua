-- Ends the leases and removes the values of the keys after the first, and says so.
--   ARGV[2]    how long a lease lasts, in milliseconds
--   ARGV[3]    how many tags are kept
--   ARGV[4]    the channel of the other processes
--   ARGV[5]    what they are told
--   ARGV[6]    1 if everything is invalidated
--   ARGV[7..]  for each key the lease that takes the place of what is there, or nothing; then tags
-- Answers with the sequence.
seq = redis.call('HINCRBY', state, 'seq', 1)
local now = string.format('%.0f', seq)
if ARGV[6] == '1' then
  redis.call('HSET', state, 'all', now)
  all = seq
end
for i = 2, #KEYS do
  local lease = ARGV[i + 5]
  if lease == '' then
    redis.call('UNLINK', KEYS[i])
  else
    redis.call('SET', KEYS[i], lease, 'PX', ARGV[2])
  end
end
for i = #KEYS + 6, #ARGV do
  redis.call('HSET', state, 'tagged', now, 't' .. ARGV[i], now)
end
if redis.call('HLEN', state) > tonumber(ARGV[3]) + 4 then
  -- As if all tags had been invalidated.
  redis.call('DEL', state)
  redis.call('HSET', state, 'seq', now, 'all', string.format('%.0f', all), 'tagged', now,
    'forgotten', now)
end
redis.call('PUBLISH', ARGV[4], now .. ' ' .. ARGV[5])
return now
