-- uses: clock meter
-- What a pool's meter is told, what may be read of it, and what no request caused.

-- A pool's price, the phases that are free ('' for none) and requests per container from now on; a pool that is new begins
-- here.
local function meter_rate(K, pool, now, rate, target, free)
  local m = load_meter(K, pool)
  if m then
    advance(m, now)
  else
    redis.call('SADD', K .. 'meters', pool)
    m = new_meter(K, pool, now)
  end
  m.rate, m.target = rate, target
  regroup(m)
  save_meter(m)
  if free == '' then
    redis.call('HDEL', m.key, 'free')
  else
    redis.call('HSET', m.key, 'free', free)
  end
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
    m.fresh_until, m.asked, m.spare = math.max(m.fresh_until, now + LIST_GOOD_FOR), 0, 0
    save_meter(m)
  end
end

-- Of ready time that was learnt late, what was busy, where idle time is free: as far as more containers were asked for than
-- known; of time that is taken back, what was not idle as far as any was counted.
local function missed_busy(m, us)
  if us > 0 then
    local busy = math.min(us, m.asked)
    m.asked = m.asked - busy
    return busy
  end
  local idle = math.min(-us, m.spare)
  m.spare = m.spare - idle
  return us + idle
end

-- Container time that was learnt late; negative where time was counted that no container lived.
local function meter_missed(K, pool, phase, us)
  local m = load_meter(K, pool)
  if m then
    local into, billed = m.adjustment, us
    if phase == 'boot' then
      into, billed = m.boot, m.boot_is_free and 0 or us
    elseif m.idle_is_free then
      billed = missed_busy(m, us)
    end
    local whole, rest = cost_of(m.rate, math.abs(billed))
    spend(into, billed < 0 and -1 or 1, math.abs(billed), whole, rest)
    into.us = into.us + us - billed
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
