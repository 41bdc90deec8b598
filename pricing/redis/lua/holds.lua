-- uses: clock windows caps rates ledger meter
-- Holds: set aside, grown, ended once.
--
-- A hold is a hash; its lease is a member of `leases`; how it ended is remembered for a while in `ended:<id>`, as
-- "<how> <replica> <token>". The token is that of the call that ended it: the same call again, by a replica that never
-- heard the answer, is known by it.

local ENDED_S = 600
local EXPIRED_S = 86400

local FIELDS = { 'amount', 'bucket', 'anchor', 'lease', 'owner', 'scopes', 'row', 'pool' }

local function load_hold(K, id)
  local values = redis.call('HMGET', K .. 'hold:' .. id, unpack(FIELDS))
  if not values[1] then
    return nil
  end
  return {
    id = id,
    amount = tonumber(values[1]),
    bucket = tonumber(values[2]),
    anchor = tonumber(values[3]),
    lease = tonumber(values[4]),
    owner = values[5],
    scopes = cmsgpack.unpack(values[6]),
    row = values[7],
    pool = values[8],
  }
end

-- How a hold ended: the words of `ended:<id>`, or nil.
local function ended(K, id)
  local value = redis.call('GET', K .. 'ended:' .. id)
  if value then
    return string.match(value, '^(%S+) (%S+) (%S*)$')
  end
end

local function remember_end(K, id, how, owner, token)
  local seconds = how == 'expired' and EXPIRED_S or ENDED_S
  redis.call('SET', K .. 'ended:' .. id, how .. ' ' .. owner .. ' ' .. token, 'EX', seconds)
end

-- Tenants and keys are who is limited to a number of requests at once.
local function count_in_flight(K, scopes, one)
  for _, scope in ipairs(scopes) do
    if string.sub(scope, 1, 7) == 'tenant:' or string.sub(scope, 1, 4) == 'key:' then
      if redis.call('HINCRBY', K .. 'inflight', scope, one) == 0 then
        redis.call('HDEL', K .. 'inflight', scope)
      end
    end
  end
end

-- Add to a hold in every scope; amounts may be negative.
local function change_all(K, scopes, bucket, spent, held, now)
  for _, scope in ipairs(scopes) do
    local a = account(K, scope)
    keep(a, now)
    change(a, bucket, spent, held)
    if spent ~= 0 and string.sub(scope, 1, 7) == 'tenant:' then
      redis.call('HINCRBY', K .. 'totals', scope, text(spent))
    end
  end
end

local function renew_lease(K, id, lease, now)
  redis.call('ZADD', K .. 'leases', text(now + lease), id)
  return now + lease
end

local function new_hold(K, wish, now)
  local anchor = tonumber(wish.anchor) or now
  local bucket = bucket_of(anchor)
  local scopes = names_of_scopes(wish.caps)
  change_all(K, scopes, bucket, 0, wish.amount, now)
  count_in_flight(K, scopes, 1)
  if wish.anchor == '' then
    count_request(K, wish.caps[2], wish.tokens, now)
  end
  redis.call('HSET', K .. 'hold:' .. wish.id, 'amount', text(wish.amount), 'bucket', text(bucket), 'anchor', text(anchor),
    'lease', text(wish.lease), 'owner', wish.owner, 'scopes', cmsgpack.pack(scopes), 'row', wish.row, 'pool', wish.pool)
  local made = { anchor = anchor, amount = wish.amount, deadline = renew_lease(K, wish.id, wish.lease, now) }
  if wish.pool ~= '' then
    made.running, made.kv = meter_enter(K, wish.pool, wish.id, wish.weight, wish.kv, now, wish.owner)
  end
  return made
end

-- Why a hold cannot be opened now, as a reply; nil when it can.
local function refusal(K, wish, now)
  local bucket = bucket_of(tonumber(wish.anchor) or now)
  if backlog(K) > wish.backlog then
    return { 'backlog', text(backlog(K)) }
  end
  local scope = too_large(K, names_of_scopes(wish.caps), wish.amount, now)
  if scope then
    return { 'too_large', scope }
  end
  if wish.granted then
    return nil
  end
  local place, short = first_shortfall(K, wish.caps, wish.amount, bucket, now)
  if place then
    return add_sums({ 'refused', now, place, unpack(short) }, K, wish.caps, now)
  end
  local limited = wish.anchor == '' and first_limited(K, wish.caps[2], wish.tokens, now)
  if limited then
    return { 'limited', now, unpack(limited) }
  end
end

-- Open a hold, or find it open. Replies
--   {'open', now, deadline, amount, anchor, standing of requests ×3, of tokens ×3, sums …, attempts and KV tokens of other
--   replicas in its pool (-1 and -1 where it entered none now)}, or why not:
--   {'ended', how}, {'foreign', owner}, {'backlog', bytes}, {'too_large', scope},
--   {'refused', now, place of the cap, amount, spent, held, frees at, sums …},
--   {'limited', now, scope, dimension, limit, used, needed, microseconds or -1}
local function open_hold(K, wish, now)
  local known = load_hold(K, wish.id)
  if known and known.owner ~= wish.owner then
    return { 'foreign', known.owner }
  end
  if known then
    known.deadline = tonumber(redis.call('ZSCORE', K .. 'leases', wish.id))
  else
    local how = ended(K, wish.id)
    if how then
      return { 'ended', how }
    end
    local no = refusal(K, wish, now)
    if no then
      return no
    end
    known = new_hold(K, wish, now)
  end
  local reply = { 'open', now, known.deadline, known.amount, known.anchor }
  add_sums(add_standing(reply, K, wish.caps[2], now), K, wish.caps, now)
  reply[#reply + 1], reply[#reply + 2] = known.running or -1, known.kv or -1
  return reply
end

-- Whether rows say what a meter charged: not if they are estimated, or of an attempt that ran while Redis was away.
local function tell_charge(rows)
  return rows ~= '' and not string.find(rows, '"estimated":true', 1, true)
    and not string.find(rows, '"__store_down__"', 1, true)
end

-- A hold ends without a row that says what its meter charged: the pool's `total:unrecorded` does, for whoever compares.
local function note_unrecorded(K, hold, dropped, told)
  local charge = dropped or not told and tonumber(redis.call('HGET', K .. 'hold:' .. hold.id, 'charge') or nil)
  if charge and charge ~= 0 then
    redis.call('HINCRBY', K .. 'meter:' .. hold.pool, 'total:unrecorded', text(charge))
  end
end

-- Take a hold out of everything that knows it, with what it has spent. `told`: rows say what its meter charged.
local function end_hold(K, hold, spent, now, told)
  change_all(K, hold.scopes, hold.bucket, spent, -hold.amount, now)
  count_in_flight(K, hold.scopes, -1)
  if hold.pool ~= '' then
    note_unrecorded(K, hold, meter_drop(K, hold.pool, hold.id, now), told)
  end
  redis.call('DEL', K .. 'hold:' .. hold.id)
  redis.call('ZREM', K .. 'leases', hold.id)
end

-- What settling a hold that is not open comes to: 'again' for a call that has ended it before, 'late' where nobody
-- ended it in time, else {'ended', how} or, where nothing is known of it, {'unknown'}.
local function settle_ended(K, last)
  local how, owner, token = ended(K, last.id)
  if how == 'expired' then
    return 'late'
  end
  if how and owner == last.owner and token == last.token then
    return 'again'
  end
  return how and { 'ended', how } or { 'unknown' }
end

-- Settle a hold with its rows: 'settled', 'again' or 'late'; or, with no change, a reply that says why not: as above, or
-- {'foreign', owner}, {'misfit', amount of the hold}, {'too_large', scope}.
local function settle_hold(K, last, now)
  local hold = load_hold(K, last.id)
  if not hold then
    return settle_ended(K, last)
  end
  if hold.owner ~= last.owner then
    return { 'foreign', hold.owner }
  end
  if last.amount > hold.amount and not last.may_exceed then
    return { 'misfit', hold.amount }
  end
  local scope = too_large(K, hold.scopes, last.amount - hold.amount, now)
  if scope then
    return { 'too_large', scope }
  end
  end_hold(K, hold, last.amount, now, tell_charge(last.rows))
  correct_tokens(K, last.caps[2], last.more_tokens, hold.anchor, now)
  append_rows(K, last.rows, last.request)
  remember_end(K, last.id, last.how, last.owner, last.token)
  return 'settled'
end
