-- Reads the values under the keys after the first.
--   ARGV[2]    how long a lease lasts, in milliseconds
--   ARGV[3..]  for each key the lease that it gets if nothing is there, or nothing
-- Answers with the sequence, and for each key what is there (a lease of 16 bytes, and the frame
-- behind it if there is a value) and how long it stays, in milliseconds.
local answer = { string.format('%.0f', seq) }
if #KEYS == 1 then return answer end

local found = redis.call('MGET', unpack(KEYS, 2))
for i, value in ipairs(found) do
  local key, lease = KEYS[i + 1], ARGV[i + 2]
  local stays = 0
  if value and #value > 16 and is_current(value, 17) then
    stays = redis.call('PTTL', key)
  elseif lease == '' then
    value = false
  elseif value and #value == 16 then
    -- Nothing has invalidated since it was handed out first, so it does for this load as well.
    redis.call('PEXPIRE', key, ARGV[2])
  else
    value = lease
    redis.call('SET', key, lease, 'PX', ARGV[2])
  end
  answer[2 * i] = value
  answer[2 * i + 1] = stays
end
return answer
