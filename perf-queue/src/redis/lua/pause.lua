-- ARGV: base, 1 to pause and 0 to go on.
redis.call('HSET', KEYS[1], 'paused', ARGV[2])
if ARGV[2] == '0' then redis.pcall('PUBLISH', ARGV[1] .. 'wake', '') end
return 0
