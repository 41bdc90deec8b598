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

-- `windows:<week>` is a hash of what is kept beside the buckets: one command reads all scopes of a step, one writes them.
-- What a scope has in this week's counts, else what it has in the last one's; who was idle for longer is summed anew. It
-- is a string of doubles, five a window: name, first bucket, end, spent, held. Text would take as long to read and write
-- as the commands of a step. A window's name is a number: its seconds, a month's first bucket below 0, or KEPT.
local WEEK_US = 7 * 86400 * 1000000
local WEEKS_S = 3 * 7 * 86400 -- its own, the next, and one to spare
local WINDOW = '<ddddd'
local WINDOW_BYTES = 40
local KEPT = 0

local accounts = {} -- of this step, by scope

local function bucket_of(at)
  return math.floor(at / BUCKET_US)
end

local function windows_key(K, now, weeks_ago)
  return K .. 'windows:' .. text(math.floor(now / WEEK_US) - weeks_ago)
end

local function read_windows(words)
  local windows = {}
  for i = 1, #words, WINDOW_BYTES do
    local name, first, last, spent, held = struct.unpack(WINDOW, words, i)
    windows[name] = { first = first, last = last, spent = spent, held = held }
  end
  return windows
end

-- The buckets of what a scope has spent, and of what it holds.
local function spent_key(a)
  return a.K .. 'spent:' .. a.scope
end

local function held_key(a)
  return a.K .. 'held:' .. a.scope
end

-- Make the accounts of scopes: their windows are read, their buckets stay in Redis.
local function load_accounts(K, scopes, now)
  local unknown = {}
  for _, scope in ipairs(scopes) do
    if not accounts[scope] then
      unknown[#unknown + 1] = scope
    end
  end
  for weeks_ago = 0, 1 do
    local missing = {}
    local found = #unknown > 0 and redis.call('HMGET', windows_key(K, now, weeks_ago), unpack(unknown))
    for i, scope in ipairs(unknown) do
      if not found[i] and weeks_ago == 0 then
        missing[#missing + 1] = scope
      else
        local windows = read_windows(found[i] or '')
        accounts[scope] = { K = K, scope = scope, windows = windows, changed = false }
      end
    end
    unknown = missing
  end
end

-- A scope's account, by itself or loaded with others.
local function account(K, scope, now)
  if not accounts[scope] then
    load_accounts(K, { scope }, now)
  end
  return accounts[scope]
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
    window.spent = window.spent - sum_of(spent_key(a), leaving)
    window.held = window.held - sum_of(held_key(a), leaving)
    window.first = first
    a.changed = true
    return window
  end
  local spent, any_spent = sum_all(spent_key(a), first, last)
  local held, any_held = sum_all(held_key(a), first, last)
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
    for _, name in ipairs(redis.call('HKEYS', spent_key(a))) do
      if tonumber(name) < first then
        old[#old + 1] = name
      end
    end
  end
  for i = 1, #old, 1000 do
    redis.call('HDEL', spent_key(a), unpack(old, i, math.min(i + 999, #old)))
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

-- Nano-dollars to add to a bucket, which may be negative; as text too, once for all scopes.
local function amounts(bucket, spent, held)
  return {
    bucket = bucket, spent = spent, held = held,
    name = text(bucket), spent_text = text(spent), held_text = text(held),
  }
end

-- Add amounts, where `keep` has been called. Spend that no window holds is not kept.
local function change(a, more)
  local bucket, spent, held = more.bucket, more.spent, more.held
  if spent ~= 0 and bucket >= a.windows[KEPT].first then
    if redis.call('HINCRBY', spent_key(a), more.name, more.spent_text) == spent then
      redis.call('EXPIRE', spent_key(a), KEPT_S + 86400)
    end
  end
  if held ~= 0 and redis.call('HINCRBY', held_key(a), more.name, more.held_text) == 0 then
    redis.call('HDEL', held_key(a), more.name)
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

local function window_words(windows)
  local numbers, count = {}, 0
  for name, w in pairs(windows) do
    numbers[count + 1], numbers[count + 2], numbers[count + 3] = name, w.first, w.last
    numbers[count + 4], numbers[count + 5] = w.spent, w.held
    count = count + 5
  end
  return struct.pack('<' .. string.rep('d', count), unpack(numbers))
end

-- Write the windows that have changed; every step ends with this.
local function save_accounts(K, now)
  local changed = {}
  for scope, a in pairs(accounts) do
    if a.changed then
      changed[#changed + 1] = scope
      changed[#changed + 1] = window_words(a.windows)
    end
  end
  local key = windows_key(K, now, 0)
  for i = 1, #changed, 1000 do
    if redis.call('HSET', key, unpack(changed, i, math.min(i + 999, #changed))) > 0 then
      redis.call('EXPIRE', key, WEEKS_S)
    end
  end
end
