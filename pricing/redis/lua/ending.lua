-- uses: holds ledger meter
-- Holds that end, once: settled, released or expired.

local ENDED_S = 600
local EXPIRED_S = 86400

local function remember_end(K, id, how, owner, token)
  local seconds = how == 'expired' and EXPIRED_S or ENDED_S
  redis.call('SET', K .. 'ended:' .. id, how .. ' ' .. owner .. ' ' .. token, 'EX', seconds)
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
  count_in_flight(K, hold.scopes, '-1')
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
