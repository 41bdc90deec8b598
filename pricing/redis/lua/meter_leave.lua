-- uses: clock pools
-- An attempt's work is done. ARGV: now or '', pool, member, replica.
-- Replies {charge as text, or '' where nothing is known of it, 1 if that rests on what was observed else 0, attempts and
-- KV tokens of other replicas}.

local K, pool, member = KEYS[1], ARGV[2], ARGV[3]
local charge, observed = meter_leave(K, pool, member, time_now(K, ARGV[1]))
local m = load_meter(K, pool)
if not m then
  return { '', 0, 0, 0 }
end
return { charge and text(charge) or '', observed, load_elsewhere(m, ARGV[4]) }
