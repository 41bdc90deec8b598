-- uses: holds meter
-- Holds that are opened.

local function new_hold(K, wish, now)
  local anchor = wish.anchor or now
  local bucket = bucket_of(anchor)
  change_all(K, wish.scopes, bucket, 0, wish.amount, now)
  count_in_flight(K, wish.scopes, '1')
  if not wish.anchor then
    count_request(K, wish.caps[2], wish.tokens, now)
  end
  local terms = cmsgpack.pack({ bucket, anchor, wish.lease, wish.owner, wish.pool, wish.scopes })
  redis.call('HSET', K .. 'hold:' .. wish.id, 'amount', text(wish.amount), 'terms', terms, 'row', wish.row,
    'unheard', wish.granted and '' or '1', 'opened', text(now))
  local made = { anchor = anchor, amount = wish.amount, deadline = renew_lease(K, wish.id, wish.lease, now) }
  if wish.pool ~= '' then
    made.running, made.kv = meter_enter(K, wish.pool, wish.id, wish.weight, wish.kv, now, wish.owner)
  end
  return made
end

-- Why a hold cannot be opened now, as a reply; nil when it can.
local function refusal(K, wish, now)
  load_accounts(K, wish.scopes, now)
  local place, short
  if not wish.granted then
    place, short = first_shortfall(K, wish.caps, wish.amount, bucket_of(wish.anchor or now), now)
  end
  if place then
    return add_sums({ 'refused', now, place, unpack(short) }, K, wish.caps, now)
  end
  local scope = too_large(K, wish.scopes, wish.amount, now)
  if scope then
    return { 'too_large', scope }
  end
  local limited = not (wish.granted or wish.anchor) and first_limited(K, wish.caps[2], wish.tokens, now)
  if limited then
    return { 'limited', now, unpack(limited) }
  end
end

-- Open a hold, or find it open. Replies
--   {'open', now, deadline, amount, anchor, standing of requests ×3, of tokens ×3, sums …, attempts and KV tokens of other
--   replicas in its pool (-1 and -1 where it entered none now)}, or why not:
--   {'lost', id that Redis has or ''}, {'ended', how}, {'foreign', owner}, {'backlog', bytes}, {'too_large', scope},
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
    local last, waiting, installation =
      unpack(redis.call('MGET', K .. 'ended:' .. wish.id, K .. 'backlog', K .. 'installation'))
    if wish.installation ~= '' and wish.installation ~= installation then
      return { 'lost', installation or '' }
    end
    if last then
      return { 'ended', (end_of(last)) }
    end
    if (tonumber(waiting) or 0) > wish.backlog then
      return { 'backlog', waiting }
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
