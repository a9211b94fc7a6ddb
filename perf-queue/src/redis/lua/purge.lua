-- ARGV: base, an age. Drops the dead letters that died so long ago or longer, all by zero; returns how
-- many there were.
local DZ, DL, call = KEYS[10], KEYS[11], redis.call
if ARGV[2] == '0' then
  local n = call('ZCARD', DZ)
  call('UNLINK', DZ, DL)
  return n
end
local till = time_of_queue() - ARGV[2]
local n = 0
while true do
  local ids = call('ZRANGE', DZ, 0, 99)
  if #ids == 0 then return n end
  local letters, old = call('HMGET', DL, unpack(ids)), {}
  for i = 1, #ids do
    if letters[i] and struct.unpack('>I8', letters[i]) > till then break end
    old[i] = ids[i]
  end
  if #old > 0 then
    call('ZREM', DZ, unpack(old))
    call('HDEL', DL, unpack(old))
  end
  n = n + #old
  if #old < #ids then return n end
end
