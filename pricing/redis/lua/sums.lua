-- uses: clock windows caps
-- What caps' windows have spent and hold now, and, after something was spent, the warnings that are due.
-- ARGV: now or '', caps, 1 if something was spent. Replies {'sums', now, {warnings …}, sums …}, or {'month', now}.

local K = KEYS[1]
local now = time_now(K, ARGV[1])
local caps = cmsgpack.unpack(ARGV[2])
if not month_at(caps[1], now) then
  return { MONTH_UNKNOWN, now }
end
load_accounts(K, caps[3], now)
local reply = add_sums({ 'sums', now, ARGV[3] == '1' and warnings(K, caps, now) or {} }, K, caps, now)
save_accounts(K, now)
return reply
