-- uses: clock
-- The fair-share clock of a pool: pricing/meter/pool.py to the nano-dollar, for any order of steps.
--
-- That counts in integers of any size, this in doubles, which are exact up to 2^53. So a cost is a pair: whole
-- nano-dollars, and a rest that is counted in 1/HOUR of one (nano-dollars per hour × microseconds: container time) or in
-- 1/FINE (the clocks, and what members cost); products are taken in halves. Sums stay small because a drain moves their
-- even part into fields that Redis adds up itself, in 64 bits; an odd nano-dollar stays, on which rounding half to even
-- depends. A step costs the same however many run, and log n where weights differ.
--
-- meter:<pool>    `state`: all of it as doubles, since text would take several times as long as the step; `free`: phases
--                 that are not billed, boot and idle, as words, and no field where all are; and sums in 64 bits of what
--                 was drained
-- members:<pool>  weight, cost carried from the other clock, reading since when, on U (1) or not, KV tokens: doubles; whose
-- weights:<pool>  the members that weigh more than 1, since nobody else ever asks for more than one container
-- owners:<pool>   members and KV tokens (`kv:`) of each replica

local HOUR = 3600000000 -- microseconds
local FINE = 1048576
local DEAREST = 2199023255552 -- 2^41 nano-dollars per hour for one container
local HEAVIEST = 4294967296 -- 2^32, all members of a pool together
local STATE = {
  'rate', 'target', 'ready', 'booting', 'told_at', 'listed', -- told; the last is 1 if by a list
  'at', 'v_whole', 'v_fine', 'u_whole', 'u_fine', 'left_fine', 'left_rest', -- clocks, and what the last division left
  'count', 'weight', 'light', 'heavy', 'kv', 'emptied', -- members, weights, of them on V, members on U, when none was left
  'departed_whole', 'departed_fine', 'charged', 'assumed', -- what those who left cost, what they were charged
}
local PHASES = { 'busy', 'boot', 'idle', 'adjustment' } -- microseconds, cost, odd nano-dollar that was drained
-- Until when the platform's list is fresh, the last instant that was modelled, of the last drain, and the containers that
-- began to boot since; where idle time is free, container time since the last list: asked for beyond what was known, and
-- idle. They came later, behind all others: who does not know them, or does not find them, goes on.
local SEEN = { 'fresh_until', 'modelled_at', 'drained_at', 'began', 'asked', 'spare' }
local STATE_DOUBLES = '<' .. string.rep('d', #STATE + 4 * #PHASES + #SEEN)
local LIST_GOOD_FOR = 60000000
local MEMBER_DOUBLES, MEMBER_BYTES = '<ddddddd', 56

-- Quotient and rest, rounded down. `%` would take the quotient from a rounded division; `+ 0` makes 0 of -0.
local function divide(number, by)
  local rest = math.fmod(number, by)
  if rest < 0 then
    rest = rest + by
  end
  return (number - rest) / by, rest + 0
end

local function half_even(whole, rest, unit)
  if 2 * rest > unit or (2 * rest == unit and math.fmod(whole, 2) ~= 0) then
    return whole + 1
  end
  return whole
end

-- What one container costs in that time: nano-dollars and 1/HOUR of one.
local function cost_of(rate, us)
  local hours, rest = divide(us, HOUR)
  local high, low = divide(rate, FINE)
  local upper, upper_rest = divide(high * rest, HOUR)
  local lower, lower_rest = divide(upper_rest * FINE + low * rest, HOUR)
  return rate * hours + upper * FINE + lower, lower_rest
end

local function keys_of(K, pool)
  return {
    key = K .. 'meter:' .. pool, members = K .. 'members:' .. pool, weights = K .. 'weights:' .. pool,
    owners = K .. 'owners:' .. pool,
  }
end

local function is_free(words, phase)
  return words and string.find(words, phase, 1, true) ~= nil
end

-- A pool's meter; nil for a pool that was never given a rate.
local function load_meter(K, pool)
  local m = keys_of(K, pool)
  local words, free = unpack(redis.call('HMGET', m.key, 'state', 'free'))
  if not words then
    return nil
  end
  m.boot_is_free, m.idle_is_free = is_free(free, 'boot'), is_free(free, 'idle')
  local values = { struct.unpack(STATE_DOUBLES, words .. string.rep('\0', struct.size(STATE_DOUBLES) - #words)) }
  for i, name in ipairs(STATE) do
    m[name] = values[i]
  end
  for i, name in ipairs(PHASES) do
    local at = #STATE + 4 * i
    m[name] = { us = values[at - 3], whole = values[at - 2], rest = values[at - 1], drained = values[at] }
  end
  for i, name in ipairs(SEEN) do
    m[name] = values[#STATE + 4 * #PHASES + i]
  end
  return m
end

local function save_meter(m)
  local values = {}
  for i, name in ipairs(STATE) do
    values[i] = m[name]
  end
  for i, name in ipairs(PHASES) do
    local at, phase = #STATE + 4 * i, m[name]
    values[at - 3], values[at - 2], values[at - 1], values[at] = phase.us, phase.whole, phase.rest, phase.drained
  end
  for i, name in ipairs(SEEN) do
    values[#STATE + 4 * #PHASES + i] = m[name]
  end
  redis.call('HSET', m.key, 'state', struct.pack(STATE_DOUBLES, unpack(values)))
end

-- The meter of a pool that is new, which nobody has told anything.
local function new_meter(K, pool, now)
  local m = keys_of(K, pool)
  for _, name in ipairs(STATE) do
    m[name] = 0
  end
  for _, name in ipairs(PHASES) do
    m[name] = { us = 0, whole = 0, rest = 0, drained = 0 }
  end
  for _, name in ipairs(SEEN) do
    m[name] = 0
  end
  m.at, m.drained_at = now, now
  return m
end

local function member_of(words)
  local weight, whole, fine, since_whole, since_fine, on_u, kv = struct.unpack(MEMBER_DOUBLES, words)
  return {
    weight = weight, whole = whole, fine = fine, since_whole = since_whole, since_fine = since_fine, heavy = on_u == 1,
    kv = kv, owner = string.sub(words, MEMBER_BYTES + 1),
  }
end

local function member_words(one)
  return struct.pack(MEMBER_DOUBLES, one.weight, one.whole, one.fine, one.since_whole, one.since_fine, one.heavy and 1 or 0,
    one.kv) .. one.owner
end

-- Count a member in or out (`one` is 1 or -1), for its pool and for its replica. Returns the members and KV tokens of
-- other replicas.
local function count(m, member, one)
  m.count, m.weight, m.kv = m.count + one, m.weight + one * member.weight, m.kv + one * member.kv
  local kv = redis.call('HINCRBY', m.owners, 'kv:' .. member.owner, text(one * member.kv))
  local own = redis.call('HINCRBY', m.owners, 'n:' .. member.owner, text(one))
  if own == 0 then
    redis.call('HDEL', m.owners, 'n:' .. member.owner, 'kv:' .. member.owner)
  end
  return m.count - own, m.kv - kv
end

-- Containers that the requests ask for: ceil(R / target).
local function asked_of(m)
  local groups, rest = divide(m.count, m.target)
  return rest > 0 and groups + 1 or groups
end

-- Containers that serve: min(n, R, ceil(R / target)), and at least one if any request runs.
local function serving_of(m)
  return math.min(math.max(1, m.ready), m.count, asked_of(m))
end

-- Add the time and cost of `containers`, fewer than none where they are taken back.
local function spend(phase, containers, us, whole, rest)
  local carried
  carried, phase.rest = divide(phase.rest + containers * rest, HOUR)
  phase.whole = phase.whole + containers * whole + carried
  phase.us = phase.us + containers * us
end

-- The same of a phase that may be free, whose time is then counted alone.
local function spend_or_count(phase, containers, us, whole, rest, is_free_time)
  if is_free_time then
    phase.us = phase.us + containers * us
  else
    spend(phase, containers, us, whole, rest)
  end
end

-- One container has cost that much: turn U by it, and V by what heavy members leave to the others.
local function turn_clocks(m, serving, whole, rest)
  local fine, finest = divide(rest * FINE, HOUR)
  local over, left_rest = divide(serving * finest + m.left_rest, HOUR)
  local shared = serving - m.heavy
  local shared_whole, shared_fine = divide(shared * fine + m.left_fine + over, FINE)
  local each, remaining = divide(shared * whole + shared_whole, m.light)
  local each_fine, left_fine = divide(remaining * FINE + shared_fine, m.light)
  local carried
  carried, m.v_fine = divide(m.v_fine + each_fine, FINE)
  m.v_whole = m.v_whole + each + carried
  carried, m.u_fine = divide(m.u_fine + fine, FINE)
  m.u_whole = m.u_whole + whole + carried
  m.left_fine, m.left_rest = left_fine, left_rest
end

local function advance(m, now)
  local us = now - m.at
  if us <= 0 then
    return
  end
  m.at = now
  local serving = serving_of(m)
  local assumed = math.max(0, serving - m.ready)
  if assumed > 0 or (now > m.fresh_until and m.ready + m.booting > 0) then
    m.modelled_at = now
  end
  local whole, rest = cost_of(m.rate, us)
  spend_or_count(m.boot, m.booting, us, whole, rest, m.boot_is_free)
  spend_or_count(m.idle, m.ready + assumed - serving, us, whole, rest, m.idle_is_free)
  spend(m.adjustment, -assumed, us, whole, rest)
  if m.idle_is_free then
    m.asked = m.asked + math.max(0, asked_of(m) - m.ready) * us
    m.spare = m.spare + math.max(0, m.ready - serving) * us
  end
  m.assumed = m.assumed + assumed * us
  if serving > 0 then
    spend(m.busy, serving, us, whole, rest)
    turn_clocks(m, serving, whole, rest)
  end
end

-- Whether the time from an instant until the last step was observed.
local function is_observed(m, since)
  return m.modelled_at <= since
end

-- What a member has cost: nano-dollars and 1/FINE of one.
local function cost_so_far(m, one)
  local whole, fine, times = m.v_whole, m.v_fine, one.weight
  if one.heavy then
    whole, fine, times = m.u_whole, m.u_fine, 1
  end
  local carried, left = divide(one.fine + times * (fine - one.since_fine), FINE)
  return one.whole + times * (whole - one.since_whole) + carried, left
end

-- Take a member from the clock that it runs on to the other one.
local function move(m, name, one)
  one.whole, one.fine = cost_so_far(m, one)
  one.heavy = not one.heavy
  one.since_whole, one.since_fine = m.v_whole, m.v_fine
  if one.heavy then
    one.since_whole, one.since_fine = m.u_whole, m.u_fine
  end
  m.light = m.light + (one.heavy and -one.weight or one.weight)
  redis.call('HSET', m.members, name, member_words(one))
end

-- Put every member whose weight asks for more than one container on U: from the heaviest down, with h set apart and the
-- weights S of the rest, the next of weight w does when w·(b − h) > S. Those set apart are always the heaviest, and a
-- step changes one member, so all who may move are among the first of `weights`.
local function regroup(m)
  local serving = serving_of(m)
  if m.heavy == 0 then
    if serving < 2 or m.weight == m.count then
      return
    end
    local heaviest = redis.call('ZREVRANGE', m.weights, 0, 0, 'WITHSCORES')
    if heaviest[2] * serving <= m.weight then
      return
    end
  end
  local first = redis.call('ZREVRANGE', m.weights, 0, math.max(serving - 1, m.heavy), 'WITHSCORES')
  local heavy, rest, more = 0, m.weight, true
  for i = 1, #first, 2 do
    more = more and first[i + 1] * (serving - heavy) > rest
    if more then
      heavy = heavy + 1
      rest = rest - first[i + 1]
    end
    local one = member_of(redis.call('HGET', m.members, first[i]))
    if one.heavy ~= more then
      move(m, first[i], one)
    end
  end
  m.heavy = heavy
end

-- A hold was granted to a replica: its attempt runs. Returns the members and KV tokens of other replicas; nil, and meters
-- nothing, in a pool without a rate, or one whose members would weigh more than HEAVIEST together.
local function meter_enter(K, pool, member, weight, kv, now, owner)
  local m = load_meter(K, pool)
  if not m or m.weight + weight > HEAVIEST then
    return nil
  end
  advance(m, now)
  local one = { weight = weight, whole = 0, fine = 0, heavy = false, kv = kv, owner = owner or '' }
  one.since_whole, one.since_fine = m.v_whole, m.v_fine
  if redis.call('HSETNX', m.members, member, member_words(one)) == 0 then
    return nil -- it runs already
  end
  if weight > 1 then
    redis.call('ZADD', m.weights, weight, member)
  end
  local running, tokens = count(m, one, 1)
  m.light = m.light + weight
  regroup(m)
  save_meter(m)
  return running, tokens
end

-- Nobody runs: the clocks go back to 0, and all that was busy is due. Returns that sum.
local function rebase(m)
  m.v_whole, m.v_fine, m.u_whole, m.u_fine, m.left_fine, m.left_rest = 0, 0, 0, 0, 0, 0
  m.departed_whole, m.departed_fine = m.busy.whole, divide(m.busy.rest * FINE, HOUR)
  return half_even(m.busy.whole, m.busy.rest, HOUR)
end

-- Take a running member out; returns its charge.
local function take_out(m, member, one, now)
  advance(m, now)
  local whole, fine = cost_so_far(m, one)
  local carried
  carried, m.departed_fine = divide(m.departed_fine + fine, FINE)
  m.departed_whole = m.departed_whole + whole + carried
  redis.call('HDEL', m.members, member)
  if one.weight > 1 then
    redis.call('ZREM', m.weights, member)
  end
  count(m, one, -1)
  if one.heavy then
    m.heavy = m.heavy - 1
  else
    m.light = m.light - one.weight
  end
  local due
  if m.count > 0 then
    due = half_even(m.departed_whole, m.departed_fine, FINE)
    regroup(m)
  else
    due = rebase(m)
    m.emptied = now
  end
  local charge = due - m.charged
  m.charged = due
  save_meter(m)
  return charge
end

-- An attempt's work is done: its charge in nano-dollars and whether that rests on what was observed (1 or 0), remembered
-- in its hold for whoever asks again; nil where the attempt never entered, or left with a hold that is gone.
local function meter_leave(K, pool, member, now)
  local hold = K .. 'hold:' .. member
  local words = redis.call('HGET', K .. 'members:' .. pool, member)
  if not words then
    local known = redis.call('HMGET', hold, 'charge', 'observed')
    return tonumber(known[1] or nil), known[2] == '1' and 1 or 0
  end
  local m, observed = load_meter(K, pool), 0
  local charge = take_out(m, member, member_of(words), now)
  local amount, opened = unpack(redis.call('HMGET', hold, 'amount', 'opened'))
  if amount then
    observed = opened and is_observed(m, tonumber(opened)) and 1 or 0
    redis.call('HSET', hold, 'charge', text(charge), 'observed', text(observed))
  end
  return charge, observed
end

-- A hold ends: its member leaves, if it has not done so. Returns what that was charged, nil where it had left before.
local function meter_drop(K, pool, member, now)
  local words = redis.call('HGET', K .. 'members:' .. pool, member)
  if words then
    return take_out(load_meter(K, pool), member, member_of(words), now)
  end
end
