-- uses: clock holds
-- Grow holds and renew their leases, each for itself, in the order asked.
-- ARGV: now or '', replica, how many caps arguments follow, these, then for each hold: id, new amount, which caps.
-- Replies {'extended', now, {amount, granted, deadline, …}, {sums …} for each caps argument}, or {'month', now}.
-- A hold that is not open, or another replica's, is answered with amount 0, not granted, deadline 0.

local K = KEYS[1]
local now = time_now(K, ARGV[1])
local owner, count = ARGV[2], tonumber(ARGV[3])
local tables = {}
for i = 1, count do
  tables[i] = cmsgpack.unpack(ARGV[3 + i])
  if not month_at(tables[i][1], now) then
    return { MONTH_UNKNOWN, now }
  end
end

-- Grow one hold if every cap has room; it never shrinks. Its amount now, and whether the wish was granted.
local function grow(hold, wanted, caps)
  local more = wanted - hold.amount
  if more <= 0 then
    return hold.amount, 1
  end
  if too_large(K, hold.scopes, more, now) or first_shortfall(K, caps, more, hold.bucket, now) then
    return hold.amount, 0
  end
  change_all(K, hold.scopes, hold.bucket, 0, more, now)
  redis.call('HSET', K .. 'hold:' .. hold.id, 'amount', text(wanted))
  return wanted, 1
end

local answers = {}
for i = 4 + count, #ARGV, 3 do
  local hold = load_hold(K, ARGV[i])
  local amount, granted, deadline = 0, 0, 0
  if hold and hold.owner == owner then
    deadline = renew_lease(K, hold.id, hold.lease, now)
    if hold.unheard then
      redis.call('HDEL', K .. 'hold:' .. hold.id, 'unheard')
    end
    amount, granted = grow(hold, tonumber(ARGV[i + 1]), tables[tonumber(ARGV[i + 2])])
  end
  answers[#answers + 1] = amount
  answers[#answers + 1] = granted
  answers[#answers + 1] = deadline
end
local reply = { 'extended', now, answers }
for i = 1, count do
  reply[3 + i] = add_sums({}, K, tables[i], now)
end
save_accounts(K, now)
return reply
