-- Dead letters, also of what cannot be read.
local letters_kept, unreadable = 4294967295, 0

-- The last ten errors of a job, each with its length before it.
local function errors_with(id, message)
  local all = call('HGET', E, id) or ''
  local starts, at = {}, 1
  while at <= #all do
    starts[#starts + 1] = at
    at = at + 4 + struct.unpack('>I4', all, at)
  end
  if #starts >= 10 then all = sub(all, starts[#starts - 8]) end
  return all .. pack('>I4', #message) .. message
end

-- Makes the job a dead letter; the oldest ones give way.
local function bury(id, rec, message)
  local errors = errors_with(id, message)
  call('HDEL', J, id)
  call('HDEL', E, id)
  set('seq', (state.seq or 0) + 1)
  call('ZADD', DZ, state.seq, id)
  call('HSET', DL, id, pack('>I8I4', now, #rec) .. rec .. errors)
  local over = call('ZCARD', DZ) - letters_kept
  if over > 0 then
    local old = call('ZPOPMIN', DZ, over)
    for i = 1, #old, 2 do call('HDEL', DL, old[i]) end
    add('dropped', over)
  end
end

-- The same for bytes that are no job, or no pack, and would keep others from running: they are the payload.
local function bury_bytes(id, key, bytes, what)
  local rec = header(1, now, now) .. string.char(NORMAL_URGENCY) .. pack('>I4', #key) .. key
  bury(id, rec .. pack('>I4', 0) .. bytes, what .. ' cannot be read: its bytes are no record of this version')
  unreadable = unreadable + 1
end

local function bury_record(id, rec) bury_bytes(id, '', rec, 'the job') end

local function bury_pack(key, packed)
  local id = sub(packed, 25, 40)
  if #id < 16 then id = pack('>I8I8', now, (state.seq or 0) + 1) end
  bury_bytes(id, key, packed, 'a pack of jobs')
end
