-- The state of a cache is a hash, the first key of each call:
--   seq        how many invalidations there were, from a random start on
--   all        the one that last invalidated everything
--   tagged     the last that invalidated any tag
--   forgotten  the last among those of tags that are not kept any more
--   t<tag>     the one that last invalidated the tag
-- A value has the sequence at which its load began, and is older than what came later. Where the
-- server loses the state, another random start puts the values that are left outside of it.
--
-- ARGV[1] is a random start, in case that there is no state.
local state = KEYS[1]

local function read_state()
  local found = redis.call('HMGET', state, 'seq', 'all', 'tagged', 'forgotten')
  if found[1] and found[2] and found[3] and found[4] then
    return tonumber(found[1]), tonumber(found[2]), tonumber(found[3]), tonumber(found[4])
  end
  local start = ARGV[1]
  redis.call('DEL', state)
  redis.call('HSET', state, 'seq', start, 'all', start, 'tagged', start, 'forgotten', start)
  start = tonumber(start)
  return start, start, start, start
end

local seq, all, tagged, forgotten = read_state()

-- Whether nothing has invalidated what was loaded at the sequence that the frame has: 8 bytes of it,
-- 2 of the number of tags, and of each tag 2 of its length and itself.
local function is_current(value, at)
  if #value < at + 9 then return false end
  local stamp, tags, next = struct.unpack('>I8I2', value, at)
  if stamp < all or stamp > seq then return false end
  if tags == 0 then return true end
  if stamp < forgotten then return false end
  for _ = 1, tags do
    if #value < next + 1 then return false end
    local length = struct.unpack('>I2', value, next)
    local tag = string.sub(value, next + 2, next + 1 + length)
    if #tag < length then return false end
    next = next + 2 + length
    local invalidated = redis.call('HGET', state, 't' .. tag)
    if invalidated and stamp < tonumber(invalidated) then return false end
  end
  return true
end
