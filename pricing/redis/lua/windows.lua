-- uses: clock
-- What a scope has spent and holds, nano-dollars in 15-minute buckets, and the sums of the windows that caps look at.
--
-- A window's sums are kept beside the buckets and rolled forward by what leaves them, so that a step costs the same under
-- a cap of 30 days as under one of 24 hours. Any window may be dropped: its sums are then taken from the buckets anew.
-- The window KEPT is every scope's: it reaches back further than any cap, what leaves it is deleted, and nothing may
-- bring its sum beyond what a double holds exactly. A window that begins before it is not wholly known any more.

local BUCKET_US = 900000000
local KEPT_US = 33 * 86400 * 1000000
local KEPT_S = 34 * 86400 -- how long an idle scope's keys live on, a day more than anything in them counts
local NEAR = 96 -- buckets that a window rolls over one by one; beyond, its sums are taken anew

-- `windows:<scope>` is a string of doubles, five a window: name, first bucket, end, spent, held. Text would take as long
-- to read and write as the commands of a step. A window's name is a number: its seconds, a month's first bucket below 0, or KEPT.
local WINDOW = '<ddddd'
local WINDOW_BYTES = 40
local KEPT = 0

local accounts = {} -- of this step, by scope

local function bucket_of(at)
  return math.floor(at / BUCKET_US)
end

-- A scope's account; its windows come from the cache, its buckets stay in Redis.
local function account(K, scope)
  local known = accounts[scope]
  if known then
    return known
  end
  local made = {
    spent = K .. 'spent:' .. scope,
    held = K .. 'held:' .. scope,
    cache = K .. 'windows:' .. scope,
    windows = {},
    changed = false,
  }
  local cached = redis.call('GET', made.cache) or ''
  for i = 1, #cached, WINDOW_BYTES do
    local name, first, last, spent, held = struct.unpack(WINDOW, cached, i)
    made.windows[name] = { first = first, last = last, spent = spent, held = held }
  end
  accounts[scope] = made
  return made
end

-- Nano-dollars in a hash's buckets from `first` to before `last`, and whether the hash has any.
local function sum_all(key, first, last)
  local sum, buckets = 0, redis.call('HGETALL', key)
  for i = 1, #buckets, 2 do
    local bucket = tonumber(buckets[i])
    if bucket >= first and bucket < last then
      sum = sum + tonumber(buckets[i + 1])
    end
  end
  return sum, #buckets > 0
end

local function names_of(first, last)
  local names = {}
  for bucket = first, last - 1 do
    names[#names + 1] = text(bucket)
  end
  return names
end

local function sum_of(key, names)
  local sum = 0
  for _, nusd in ipairs(redis.call('HMGET', key, unpack(names))) do
    sum = sum + (tonumber(nusd) or 0) -- a field that is not there is false
  end
  return sum
end

-- The sums of the buckets `first` to before `last`, under a name of its own.
local function window_at(a, name, first, last)
  local window = a.windows[name]
  if window and window.first == first then
    return window
  end
  if window and window.first < first and first - window.first <= NEAR then
    local leaving = names_of(window.first, first)
    window.spent = window.spent - sum_of(a.spent, leaving)
    window.held = window.held - sum_of(a.held, leaving)
    window.first = first
    a.changed = true
    return window
  end
  local spent, any_spent = sum_all(a.spent, first, last)
  local held, any_held = sum_all(a.held, first, last)
  window = { first = first, last = last, spent = spent, held = held }
  a.windows[name] = window
  a.changed = a.changed or any_spent or any_held
  return window
end

-- Delete the spend of buckets before `first`; `since` is where the last deletion ended.
local function forget(a, since, first)
  local old = {}
  if first - since <= NEAR then
    old = names_of(since, first)
  else
    for _, name in ipairs(redis.call('HKEYS', a.spent)) do
      if tonumber(name) < first then
        old[#old + 1] = name
      end
    end
  end
  for i = 1, #old, 1000 do
    redis.call('HDEL', a.spent, unpack(old, i, math.min(i + 999, #old)))
  end
end

-- Where everything that is kept of a scope begins.
local function kept_from(now)
  return bucket_of(now - KEPT_US)
end

-- Bring the window KEPT to now; call it before a change. Windows that begin before it are dropped.
local function keep(a, now)
  local first, before = kept_from(now), a.windows[KEPT]
  if before and before.first == first then
    return before
  end
  local since = before and before.first or 0
  local kept = window_at(a, KEPT, first, LARGEST)
  forget(a, since, first)
  for name, window in pairs(a.windows) do
    if window.first < first then
      a.windows[name] = nil
    end
  end
  a.changed = true
  return kept
end

-- Add to a bucket, where `keep` has been called; amounts may be negative. Spend that no window holds is not kept.
local function change(a, bucket, spent, held)
  local name = text(bucket)
  if spent ~= 0 and bucket >= a.windows[KEPT].first then
    if redis.call('HINCRBY', a.spent, name, text(spent)) == spent then
      redis.call('EXPIRE', a.spent, KEPT_S + 86400)
    end
  end
  if held ~= 0 and redis.call('HINCRBY', a.held, name, text(held)) == 0 then
    redis.call('HDEL', a.held, name)
  end
  for _, window in pairs(a.windows) do
    if bucket >= window.first and bucket < window.last then
      window.spent = window.spent + spent
      window.held = window.held + held
    end
  end
  a.changed = true
end

-- Whether `more` nano-dollars keep every sum of the scope exact.
local function is_exact(a, more, now)
  local kept = keep(a, now)
  return kept.spent + kept.held + more <= LARGEST
end

-- Write the windows that have changed; every step ends with this.
local function save_accounts()
  for _, a in pairs(accounts) do
    if a.changed then
      local numbers, count = {}, 0
      for name, w in pairs(a.windows) do
        numbers[count + 1], numbers[count + 2], numbers[count + 3] = name, w.first, w.last
        numbers[count + 4], numbers[count + 5] = w.spent, w.held
        count = count + 5
      end
      local packed = struct.pack('<' .. string.rep('d', count), unpack(numbers))
      redis.call('SET', a.cache, packed, 'EX', KEPT_S)
    end
  end
end
