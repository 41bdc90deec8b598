-- uses: clock rates
-- How much of their rate limits scopes have used.
-- ARGV: now or '', scopes. Replies {now, requests, tokens, microseconds until all is back, in flight, … for each scope}.

local K = KEYS[1]
local now = time_now(K, ARGV[1])
local reply = { now }
for i = 2, #ARGV do
  local used = usage(K, ARGV[i], now)
  reply[#reply + 1] = sum_slots(used.requests)
  reply[#reply + 1] = sum_slots(used.tokens)
  reply[#reply + 1] = resets_in(used, now)
  reply[#reply + 1] = in_flight(K, ARGV[i])
end
return reply
