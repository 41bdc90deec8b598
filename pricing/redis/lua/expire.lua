-- uses: clock ending
-- End holds whose lease has run out, each spent in full with a row marked as an estimate; whoever runs it, once each.
-- ARGV: now or '', at most how many.
-- Replies {now, id, {scope, …}, id, {scope, …}, …}.

local K = KEYS[1]
local now = time_now(K, ARGV[1])
local reply = { now }
for _, id in ipairs(redis.call('ZRANGEBYSCORE', K .. 'leases', '-inf', text(now), 'LIMIT', 0, ARGV[2])) do
  local hold = load_hold(K, id)
  if hold then
    local row = redis.call('HGET', K .. 'hold:' .. id, 'row')
    end_hold(K, hold, hold.amount, now, false)
    local amount = text(hold.amount)
    append(K, 'k', 'filled', 'row', row, 'amount', amount, 'metered', amount, 'at', text(now), 'estimated', '1')
    remember_end(K, id, 'expired', hold.owner, '')
    reply[#reply + 1] = id
    reply[#reply + 1] = hold.scopes
  else
    redis.call('ZREM', K .. 'leases', id)
  end
end
save_accounts(K, now)
return reply
