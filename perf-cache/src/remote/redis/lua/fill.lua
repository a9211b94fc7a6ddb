-- Puts values under the keys after the first, each if its lease is still there.
--   ARGV[2..]  for each key the lease, the frame, and how long it stays, in milliseconds
-- Answers with how many it took.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local taken = 0
for i = 2, #KEYS do
  local at = 3 * i - 4
  local lease, frame, stays = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local found = redis.pcall('GETRANGE', KEYS[i], 0, 15)
  if found == lease and is_current(frame, 1) then
    local expires = struct.pack('>I8', now + tonumber(stays))
    redis.call('SET', KEYS[i], lease .. expires .. frame, 'PX', stays)
    taken = taken + 1
  end
end
return taken
