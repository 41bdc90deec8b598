-- uses: clock windows restoring
-- Add to what a scope has spent, and to what verifying compares: what a loss has taken.
-- ARGV: now or '', token and milliseconds of the lease on restoring, scope or '', hash of sums and field in it or '' and
-- '', nano-dollars of these, then bucket and nano-dollars, …; amounts may be negative.
-- Replies 1, or 0 with nothing written where the lease is not this process's any more.

local K = KEYS[1]
if not keep_lease(K, ARGV[2], ARGV[3]) then
  return 0
end
local now = time_now(K, ARGV[1])
if ARGV[4] ~= '' then
  local a = account(K, ARGV[4], now)
  keep(a, now)
  for i = 8, #ARGV, 2 do
    change(a, amounts(tonumber(ARGV[i]), tonumber(ARGV[i + 1]), 0))
  end
  save_accounts(K, now)
end
if ARGV[5] ~= '' then
  redis.call('HINCRBY', K .. ARGV[5], ARGV[6], ARGV[7])
  local pool = string.match(ARGV[5], '^meter:(.*)$')
  if pool then
    redis.call('SADD', K .. 'meters', pool)
  end
end
return 1
