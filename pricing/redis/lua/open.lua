-- uses: clock opening wishes
-- Open a hold.
-- ARGV: now or '', then a wish (see wishes.lua). Replies as `open_hold` does, or {'month', now}.

local K = KEYS[1]
local now = time_now(K, ARGV[1])
local wish = read_wish(ARGV, 2)
if not month_at(wish.caps[1], now) then
  return { MONTH_UNKNOWN, now }
end
local reply = open_hold(K, wish, now)
save_accounts(K, now)
return reply
