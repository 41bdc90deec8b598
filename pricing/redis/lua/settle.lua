-- uses: clock ending wishes
-- Settle or release a hold.
-- ARGV: now or '', then a settlement (see wishes.lua).
-- Replies {'settled' or 'again' or 'late', now, {warnings …}, sums …}, {'month', now}, or as `settle_hold` refuses.

local K = KEYS[1]
local now = time_now(K, ARGV[1])
local last = read_settlement(ARGV, 2)
if not month_at(last.caps[1], now) then
  return { MONTH_UNKNOWN, now }
end
local how = settle_hold(K, last, now)
if type(how) == 'table' then
  save_accounts(K, now)
  return how
end
local due = last.amount > 0 and warnings(K, last.caps, now) or {}
local reply = add_sums({ how, now, due }, K, last.caps, now)
save_accounts(K, now)
return reply
