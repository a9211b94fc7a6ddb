-- ARGV: base, how many dead letters at most. The oldest, as ids and what is kept, in turn.
local DZ, DL, call = KEYS[10], KEYS[11], redis.call
if ARGV[2] == '0' then return {} end
local answer, ids = {}, call('ZRANGE', DZ, 0, ARGV[2] - 1)
for from = 1, #ids, 1000 do
  local to = math.min(#ids, from + 999)
  local letters = call('HMGET', DL, unpack(ids, from, to))
  for i = from, to do
    answer[#answer + 1] = ids[i]
    answer[#answer + 1] = letters[i - from + 1]
  end
end
return answer
