-- uses: clock windows
-- Add to what a scope has spent, and to what verifying compares: what a loss has taken.
-- ARGV: now or '', scope or '', hash of sums and field in it or '' and '', nano-dollars of these, then bucket and
-- nano-dollars, …; amounts may be negative.

local K = KEYS[1]
local now = time_now(K, ARGV[1])
if ARGV[2] ~= '' then
  local a = account(K, ARGV[2], now)
  keep(a, now)
  for i = 6, #ARGV, 2 do
    change(a, amounts(tonumber(ARGV[i]), tonumber(ARGV[i + 1]), 0))
  end
  save_accounts(K, now)
end
if ARGV[3] ~= '' then
  redis.call('HINCRBY', K .. ARGV[3], ARGV[4], ARGV[5])
  local pool = string.match(ARGV[3], '^meter:(.*)$')
  if pool then
    redis.call('SADD', K .. 'meters', pool)
  end
end
