-- The time where nothing of the queue's state is read but this; see `state.lua`.
local function time_of_queue()
  local clock, kept = redis.call('TIME'), redis.call('HMGET', KEYS[1], 'ahead', 'seen')
  return math.max(clock[1] * 1000000 + clock[2] + (kept[1] or 0), tonumber(kept[2] or 0))
end

