-- ARGV: base, the lease time, of how many batches some are, those, then leases. Returns the jobs of those that
-- are over.
local till = string.format('%.0f', now + ARGV[2])
local lost = {}
for i = 4, 3 + ARGV[3] do spread(ARGV[i]) end
for from = 4 + ARGV[3], #ARGV, 1000 do
  local to = math.min(#ARGV, from + 999)
  local scores, held = call('ZMSCORE', X, unpack(ARGV, from, to)), {}
  for i = from, to do
    if scores[i - from + 1] then
      held[#held + 1] = till
      held[#held + 1] = ARGV[i]
    else
      lost[#lost + 1] = sub(ARGV[i], 1, 16)
    end
  end
  if #held > 0 then call('ZADD', X, 'XX', unpack(held)) end
end
save()
return lost
