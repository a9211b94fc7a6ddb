-- Reads the values under the keys after the first.
--   ARGV[2]  how long a lease lasts, in milliseconds
--   ARGV[3]  what the leases of this call begin with: 12 bytes
--   ARGV[4]  for each key 1 if it gets a lease where nothing is there, else 0
-- Answers with the sequence, that of the last invalidation of everything, and of any tag, the time of this
-- server in milliseconds, and for each key what is there: a lease of 16 bytes, and behind it, if there is a
-- value, 8 of when it expires and the frame. What only tags tell is seen to here; that everything
-- was invalidated is left to the caller.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local answer = {
  string.format('%.0f', seq), string.format('%.0f', all), string.format('%.0f', tagged),
  string.format('%.0f', now)
}
if #KEYS == 1 then return answer end

local byte = string.byte
local found = redis.call('MGET', unpack(KEYS, 2))
for i = 1, #KEYS - 1 do
  local value = found[i]
  if value and #value > 34 then
    local high, low = byte(value, 33, 34)
    if (high ~= 0 or low ~= 0) and not is_current(value, 25) then
      -- Whoever has the lease loads anew; fills that are as old are refused.
      found[i] = string.sub(value, 1, 16)
    end
  elseif byte(ARGV[4], i) ~= 49 then
    found[i] = false
  elseif value and #value == 16 then
    -- Nothing has invalidated since it was handed out first, so it does for this load as well.
    redis.call('PEXPIRE', KEYS[i + 1], ARGV[2])
  else
    found[i] = ARGV[3] .. struct.pack('>I4', i)
    redis.call('SET', KEYS[i + 1], found[i], 'PX', ARGV[2])
  end
end
answer[5] = found
return answer
