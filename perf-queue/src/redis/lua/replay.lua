-- ARGV: base, capacity, id. 1 if the dead letter is a job again, 0 if there is none, -1 if there is
-- no room.
local id = ARGV[3]
local letter = call('HGET', DL, id)
if not letter then return 0 end
if all_jobs() >= tonumber(ARGV[2]) then return -1 end
local _, length = struct.unpack('>I8I4', letter)
local rec, errors = sub(letter, 13, 12 + length), sub(letter, 13 + length)
promote()
local ring_was_empty = call('EXISTS', R) == 0
call('ZREM', DZ, id)
call('HDEL', DL, id)
call('HSET', J, id, pack('>I4I8', 1, now) .. sub(rec, 13))
if #errors > 0 then call('HSET', E, id, errors) end
local rate = rate_of(rec)
if rate then
  bring_first()
  bring(key_of(rec), rate, true)
end
local batch = new_batch()
batch:add(key_of(rec), string.byte(rec, 21), id)
batch:join()
save()
wake(ring_was_empty)
return 1
