-- uses: clock windows caps
-- When amounts would fit that do not fit now.
-- ARGV: now or '', caps, then an amount for each cap in its order, -1 where nothing is asked.
-- Replies {'frees', now, an instant for each cap: 0 where it fits or nothing is asked, -1 where waiting does not help}, or
-- {'month', now}.

local K = KEYS[1]
local now = time_now(K, ARGV[1])
local caps = cmsgpack.unpack(ARGV[2])
if not month_at(caps[1], now) then
  return { MONTH_UNKNOWN, now }
end
local reply = { 'frees', now }
for _, scope in ipairs(caps[2]) do
  for _, cap in ipairs(scope[2]) do
    local asked = tonumber(ARGV[#reply + 1])
    local short = asked >= 0 and shortfall(account(K, scope[1], now), cap, asked, bucket_of(now), caps[1], now)
    reply[#reply + 1] = short and short[4] or 0
  end
end
save_accounts(K, now)
return reply
