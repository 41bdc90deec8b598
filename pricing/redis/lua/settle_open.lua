-- uses: clock ending opening wishes
-- Settle one hold and open the next; the settlement stands when the new hold is refused.
-- ARGV: now or '', a settlement, a wish (see wishes.lua).
-- Replies {'settled' or 'again' or 'late', now, {warnings …}, {reply of open_hold}}, {'month', now}, or as `settle_hold`
-- refuses, in which case nothing is opened.

local K = KEYS[1]
local now = time_now(K, ARGV[1])
local last, wish = read_settlement(ARGV, 2), read_wish(ARGV, 6)
if not (month_at(last.caps[1], now) and month_at(wish.caps[1], now)) then
  return { MONTH_UNKNOWN, now }
end
local how = settle_hold(K, last, now)
if type(how) == 'table' then
  save_accounts(K, now)
  return how
end
local due = last.amount > 0 and warnings(K, last.caps, now) or {}
local reply = { how, now, due, open_hold(K, wish, now) }
save_accounts(K, now)
return reply
