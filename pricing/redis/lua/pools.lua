-- uses: clock meter
-- What a pool's meter is told, what may be read of it, and what no request caused.

-- A pool's price and requests per container from now on; a pool that is new begins here.
local function meter_rate(K, pool, now, rate, target)
  local m = load_meter(K, pool)
  if m then
    advance(m, now)
    m.rate, m.target = rate, target
    regroup(m)
    save_meter(m)
    return
  end
  redis.call('SADD', K .. 'meters', pool)
  m = new_meter(K, pool, now)
  m.rate, m.target = rate, target
  save_meter(m)
end

-- The containers from now on, `listed` (1 or 0) by a platform or not. A word that is older than what is known says
-- nothing. Those that are more than before have begun to boot, but for those that were ready when the meter, or the list,
-- began.
local function meter_containers(K, pool, now, ready, booting, listed)
  local m = load_meter(K, pool)
  if m and now >= m.told_at then
    advance(m, now)
    local known = m.told_at > 0 and m.listed == listed
    m.began = m.began + math.max(0, known and ready + booting - m.ready - m.booting or booting - m.booting)
    m.ready, m.booting, m.told_at, m.listed = ready, booting, now, listed
    regroup(m)
    save_meter(m)
  end
end

-- A platform's list came that shows what was told.
local function meter_listed(K, pool, now)
  local m = load_meter(K, pool)
  if m then
    advance(m, now)
    m.fresh_until = math.max(m.fresh_until, now + LIST_GOOD_FOR)
    save_meter(m)
  end
end

-- Container time that was learnt late; negative where time was counted that no container lived.
local function meter_missed(K, pool, phase, us)
  local m = load_meter(K, pool)
  if m then
    local whole, rest = cost_of(m.rate, math.abs(us))
    local into = phase == 'boot' and m.boot or m.adjustment
    spend(into, us < 0 and -1 or 1, math.abs(us), whole, rest)
    save_meter(m)
  end
end

-- What a member has cost so far, and what it pays per hour just now, rounded up.
local function reading_of(m, one)
  local whole, fine = cost_so_far(m, one)
  local accrued = half_even(whole, fine, FINE)
  if one.heavy then
    return accrued, m.rate
  end
  local each, rest = divide((serving_of(m) - m.heavy) * m.rate, m.light)
  local high, low = divide(one.weight, 65536)
  local upper, upper_rest = divide(high * rest, m.light)
  local lower, left = divide(upper_rest * 65536 + low * rest, m.light)
  return accrued, one.weight * each + upper * 65536 + lower + (left > 0 and 1 or 0)
end

-- Running members and KV tokens of a pool that belong to other replicas than `owner`.
local function load_elsewhere(m, owner)
  local own = redis.call('HMGET', m.owners, 'n:' .. owner, 'kv:' .. owner)
  return m.count - (tonumber(own[1]) or 0), m.kv - (tonumber(own[2]) or 0)
end

-- Nano-dollars and microseconds of a phase since the last drain; all drains together are its rounded sum.
local function drain_phase(m, name)
  local phase = m[name]
  local whole = half_even(phase.whole, phase.rest, HOUR)
  local nusd, us = whole - phase.drained, phase.us
  local _, odd = divide(whole, 2)
  phase.whole, phase.drained, phase.us = phase.whole - (whole - odd), odd, 0
  return nusd, us
end

-- Let the meter's sums of what was charged begin anew, but for an odd nano-dollar; `total:charged` keeps them.
local function fold(m)
  local _, odd = divide(m.charged, 2)
  local even = m.charged - odd
  m.busy.whole, m.departed_whole, m.charged = m.busy.whole - even, m.departed_whole - even, odd
  redis.call('HINCRBY', m.key, 'total:charged', text(even))
  redis.call('HINCRBY', m.key, 'total:busy_us', text(m.busy.us))
  m.busy.us = 0
end
