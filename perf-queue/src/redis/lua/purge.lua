-- ARGV: base. Drops all dead letters; returns how many there were.
local n = redis.call('ZCARD', KEYS[10])
redis.call('UNLINK', KEYS[10], KEYS[11])
return n
