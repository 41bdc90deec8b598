-- uses: clock ending
-- End holds whose lease has run out, each spent in full with a row marked as an estimate; whoever runs it, once each.
-- One that its replica may never have heard of, and then has refused its request, is released as if it had never been: a
-- replica that did run something in it finds it unknown and opens it again.
-- ARGV: now or '', at most how many.
-- Replies {now, id, {scope, …}, id, {scope, …}, …}.

local K = KEYS[1]
local now = time_now(K, ARGV[1])
local reply = { now }

-- Whether no further step was taken with a hold; its meter's is one too.
local function is_unheard(hold)
  return hold.unheard and redis.call('HEXISTS', K .. 'hold:' .. hold.id, 'charge') == 0
end

local function spend_in_full(hold)
  local row, amount = redis.call('HGET', K .. 'hold:' .. hold.id, 'row'), text(hold.amount)
  end_hold(K, hold, hold.amount, now, false)
  append(K, 'k', 'filled', 'row', row, 'amount', amount, 'metered', amount, 'at', text(now), 'estimated', '1')
  remember_end(K, hold.id, 'expired', hold.owner, '')
end

for _, id in ipairs(redis.call('ZRANGEBYSCORE', K .. 'leases', '-inf', text(now), 'LIMIT', 0, ARGV[2])) do
  local hold = load_hold(K, id)
  if hold then
    if is_unheard(hold) then
      end_hold(K, hold, 0, now, false)
    else
      spend_in_full(hold)
    end
    reply[#reply + 1] = id
    reply[#reply + 1] = hold.scopes
  else
    redis.call('ZREM', K .. 'leases', id)
  end
end
save_accounts(K, now)
return reply
