-- uses: clock windows caps rates
-- Holds: what is known of them, and how their money counts.
--
-- A hold is a hash: `amount`, `terms` (what never changes, as msgpack), `row` on expiry, `opened` when, `charge` and
-- `observed` (1 or 0) once its meter has charged it, `unheard` 1 until its replica takes a further step with it. Its lease
-- is a member of `leases`; how it ended is remembered for a while in `ended:<id>`, as "<how> <replica> <token>". The token
-- is that of the call that ended it: the same call again, by a replica that never heard the answer, is known by it.

local function load_hold(K, id)
  local values = redis.call('HMGET', K .. 'hold:' .. id, 'amount', 'terms', 'unheard')
  if not values[1] then
    return nil
  end
  local bucket, anchor, lease, owner, pool, scopes = unpack(cmsgpack.unpack(values[2]))
  return {
    id = id, amount = tonumber(values[1]), bucket = bucket, anchor = anchor, lease = lease, owner = owner, pool = pool,
    scopes = scopes, unheard = values[3] == '1',
  }
end

-- How a hold ended, by the words of `ended:<id>`: how, by whom, token; nil where there are none.
local function end_of(words)
  if words then
    return string.match(words, '^(%S+) (%S+) (%S*)$')
  end
end

local function ended(K, id)
  return end_of(redis.call('GET', K .. 'ended:' .. id))
end

-- Tenants and keys are who is limited to a number of requests at once. `one` is '1' or '-1'.
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
  load_accounts(K, scopes, now)
  local more = amounts(bucket, spent, held)
  for _, scope in ipairs(scopes) do
    local a = account(K, scope, now)
    keep(a, now)
    change(a, more)
    if spent ~= 0 and string.sub(scope, 1, 7) == 'tenant:' then
      redis.call('HINCRBY', K .. 'totals', scope, more.spent_text)
    end
  end
end

local function renew_lease(K, id, lease, now)
  redis.call('ZADD', K .. 'leases', text(now + lease), id)
  return now + lease
end
