-- What every script that moves jobs shares: the queue's state, and where its keys are.
--
-- A key that has jobs which are due is in one place of these, and else in none:
--   the ring (R)     it may start a job, as far as was known when it got there
--   the waiting (W)  it waits for its limit or the end of a penalty, by when that is over
--   the parked (P)   as many of its jobs run as may
-- Whoever takes a key out of the ring looks again, so places may be out of date, e.g. when the rules
-- have changed. Times are microseconds of the server's clock.
--
-- And: S the state (a hash), J the records of all jobs that are not done and in no pack, and E their errors
-- (by id), D those that are not due yet (by when, as id, urgency and key), X the leases (by when they end, as
-- id and token), B those of packs (see `packs.lua`), F how many jobs of a key run (only where that is
-- limited), Q how many more jobs than entries the list of a key has, DZ the dead letters' order and DL what
-- they hold, N the first jobs of the calls that added packs, by until when that is remembered.
--
-- Of one key, and gone with its jobs: `q:` and `z:` its jobs that are due, as their ids; in `q:` also packs of
-- jobs, which are nowhere else. Gone by expiry: `h:` until
-- when a penalty holds it, `l0:` and `g0:` the slots of its limit (see `limits.lua`), and `r:`, by expiry
-- from when none of its jobs is due, a limit of its own that its jobs have brought. And `u:`, by expiry, a
-- name that is taken. These names are made here and not passed as KEYS; they start with the same hash tag
-- as all of KEYS, so a cluster has them in the same slot.
local S, J, E, D, X, R, W, P, F, DZ, DL, B, Q, N = unpack(KEYS)
local base = ARGV[1]
local call, pack, sub = redis.call, struct.pack, string.sub

local fields = {'seq', 'cap', 'paused', 'hold', 'key_hold', 'limited_queue', 'limited_key',
  'queue_step', 'queue_lead', 'queue_quota', 'queue_period', 'queue_since', 'queue_began', 'queue_until',
  'key_step', 'key_lead', 'key_quota', 'key_period', 'key_since', 'key_until', 'key_fresh', 'key_began',
  'era', 'unseen', 'own', 'own_now', 'own_since', 'own_after', 'last', 'token', 'put_off', 'dropped',
  'reclaimed', 'seen', 'ahead', 'version', 'packed', 'batched'}
local stored = call('HMGET', S, unpack(fields))
local state = {}
for i = 1, #fields do state[fields[i]] = tonumber(stored[i]) end

local changed = {}
local function set(field, value)
  state[field] = value
  changed[field] = true
end
local function add(field, n) set(field, (state[field] or 0) + n) end

-- How many jobs are not done: of those in packs, `packed` counts what waits, and `batched` what is leased.
local function all_jobs()
  return call('HLEN', J) + (state.packed or 0) + (state.batched or 0)
end

-- The server's clock, which may be set back: then time goes on from where it was, or whatever waits
-- would wait for longer. `ahead` is by how much it has been set back since the queue began; a step of
-- less than a second may go unseen, and is waited out.
local clock = call('TIME')
local now = clock[1] * 1000000 + clock[2] + (state.ahead or 0)
if state.seen and now < state.seen then
  set('ahead', (state.ahead or 0) + state.seen - now)
  now = state.seen
end

-- A time as `PXAT` has it, by the server's own clock.
local function expiry(time) return math.ceil((time - (state.ahead or 0)) / 1000) end

-- To be called once, at the end.
local function save()
  if next(changed) or now > (state.seen or 0) + 1000000 then set('seen', now) end
  local args = {}
  for field in pairs(changed) do
    args[#args + 1] = field
    args[#args + 1] = state[field]
  end
  if #args > 0 then call('HSET', S, unpack(args)) end
end

