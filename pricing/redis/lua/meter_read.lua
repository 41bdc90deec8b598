-- uses: clock pools observer
-- A replica's look at the meters, once a tick. ARGV: now or '', replica, microseconds of the observer's lease; then for
-- each pool its name, how many members are asked for, and these.
-- Replies {now, 'new', 'holds' or '' as it observes}, then for each pool: {attempts and KV tokens of other replicas,
-- ready, booting, microseconds since the last attempt ended or -1, then for each member that was asked for accrued and
-- share, or '' and ''}, or {} for one without a rate.

local K, replica = KEYS[1], ARGV[2]
local now = time_now(K, ARGV[1])
local reply, i = { now, observe(K, replica, tonumber(ARGV[3]), now) }, 4
while ARGV[i] do
  local m, asked, found = load_meter(K, ARGV[i]), tonumber(ARGV[i + 1]), {}
  if m then
    local running, kv = load_elsewhere(m, replica)
    found = { running, kv, m.ready, m.booting, m.emptied > 0 and m.count == 0 and now - m.emptied or -1 }
  end
  if m and asked > 0 then
    advance(m, now)
    save_meter(m)
    for place = i + 2, i + 1 + asked do
      local words, accrued, share = redis.call('HGET', m.members, ARGV[place]), '', ''
      if words then
        accrued, share = reading_of(m, member_of(words))
      end
      found[#found + 1], found[#found + 2] = accrued, share
    end
  end
  reply[#reply + 1] = found
  i = i + 2 + asked
end
return reply
