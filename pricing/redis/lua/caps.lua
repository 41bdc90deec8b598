-- uses: clock windows
-- Caps: whether more fits, when it would, and who is to be warned.
--
-- They come with every step from the replica's files, as a msgpack array {months, scopes, names}:
--   months  {first bucket, end bucket, from, until} of calendar months around now, in the files' time zone
--   scopes  those that have any: {name, caps, requests a minute, tokens a minute, in flight, 1 if any limit is named for
--           it, else 0}, with -1 where there is no limit
--   names   of all scopes, since money counts in those without a cap too
--   cap     {seconds of a rolling window or 0 for a month, amount or -1 for unlimited,
--            share that warns in parts per thousand or 0, its name in `warned`, {amount, until, …} of temporary raises}
-- A cap is known by its place: the n-th of all, scope by scope.

local MONTH_UNKNOWN = 'month' -- the replica's months do not hold this instant; it must send others

local function month_at(months, at)
  for _, month in ipairs(months) do
    if month[3] <= at and at < month[4] then
      return month
    end
  end
end

-- The amount in force at an instant; -1 is unlimited.
local function amount_at(cap, at)
  local amount, raises = cap[2], cap[5]
  for i = 1, #raises, 2 do
    if at < raises[i + 1] then
      amount = math.max(amount, raises[i])
    end
  end
  return amount
end

local function month_window(a, month)
  return window_at(a, -month[1], month[1], month[2])
end

-- A cap's window at this instant.
local function window_now(a, cap, months, now)
  if cap[1] == 0 then
    return month_window(a, month_at(months, now))
  end
  return window_at(a, cap[1], bucket_of(now - cap[1] * 1000000), LARGEST)
end

-- The window that money of a bucket counts in: for a month the one that the bucket lies in, nil when that is not wholly
-- known any more; with it the instant at which that month ends.
local function window_for(a, cap, bucket, months, now)
  if cap[1] ~= 0 then
    return window_now(a, cap, months, now)
  end
  for _, month in ipairs(months) do
    if month[1] <= bucket and bucket < month[2] and month[1] >= kept_from(now) then
      return month_window(a, month), month[4]
    end
  end
end

local function bucket_sum(a, names)
  local spent, held = redis.call('HMGET', spent_key(a), unpack(names)), redis.call('HMGET', held_key(a), unpack(names))
  local sums = {}
  for i = 1, #names do
    sums[i] = (tonumber(spent[i]) or 0) + (tonumber(held[i]) or 0)
  end
  return sums
end

-- When enough buckets have left the window for `total` to fit, -1 if that never comes. Buckets are read from the oldest
-- on, so that a window that lacks little is answered after few.
local function frees_at(a, cap, window, ends, total, now)
  local last = math.min(window.last, bucket_of(now) + 5) -- clocks of replicas may be a little ahead
  for first = window.first, last - 1, NEAR do
    local sums = bucket_sum(a, names_of(first, math.min(first + NEAR, last)))
    for i, sum in ipairs(sums) do
      total = total - sum
      local at = ends or (first + i) * BUCKET_US + cap[1] * 1000000
      local amount = amount_at(cap, at)
      if sum ~= 0 and (amount < 0 or total <= amount) then
        return at
      end
    end
  end
  return -1
end

-- Why `more` does not fit the window that `bucket` belongs to: {amount, spent, held, frees at}; nil when it fits.
local function shortfall(a, cap, more, bucket, months, now)
  local amount = amount_at(cap, now)
  if amount < 0 then
    return nil
  end
  local window, ends = window_for(a, cap, bucket, months, now)
  if not window then
    return { amount, 0, 0, -1 }
  end
  local total = window.spent + window.held + more
  if total <= amount or bucket < window.first then
    return nil
  end
  return { amount, window.spent, window.held, frees_at(a, cap, window, ends, total, now) }
end

-- The place of the first cap without room, and its shortfall; nil when all have room.
local function first_shortfall(K, caps, more, bucket, now)
  local place = 0
  for _, scope in ipairs(caps[2]) do
    for _, cap in ipairs(scope[2]) do
      place = place + 1
      local short = shortfall(account(K, scope[1], now), cap, more, bucket, caps[1], now)
      if short then
        return place, short
      end
    end
  end
end

-- The name of the first scope whose sums would be beyond what is kept exactly.
local function too_large(K, scopes, more, now)
  load_accounts(K, scopes, now)
  for _, scope in ipairs(scopes) do
    if not is_exact(account(K, scope, now), more, now) then
      return scope
    end
  end
end

-- Add what every cap's window has spent and holds now, two numbers a cap in their order.
local function add_sums(reply, K, caps, now)
  for _, scope in ipairs(caps[2]) do
    for _, cap in ipairs(scope[2]) do
      local window = window_now(account(K, scope[1], now), cap, caps[1], now)
      reply[#reply + 1] = window.spent
      reply[#reply + 1] = window.held
    end
  end
  return reply
end

-- Whether the share of the amount that warns has been spent; amount × permille would be too large for a double.
local function is_past(cap, amount, spent)
  local thousands = math.floor(amount / 1000)
  local threshold = thousands * cap[3] + math.ceil((amount - thousands * 1000) * cap[3] / 1000)
  return spent > 0 and spent >= threshold
end

-- The warnings that are due, each once in its window whichever replica comes first:
-- {place, quiet until, spent, …}.
local function warnings(K, caps, now)
  local due, place = {}, 0
  for _, scope in ipairs(caps[2]) do
    for _, cap in ipairs(scope[2]) do
      place = place + 1
      local amount = amount_at(cap, now)
      local window = cap[3] > 0 and amount >= 0 and window_now(account(K, scope[1], now), cap, caps[1], now)
      if window and is_past(cap, amount, window.spent) then
        if now >= tonumber(redis.call('HGET', K .. 'warned', cap[4]) or 0) then
          local quiet = cap[1] == 0 and month_at(caps[1], now)[4] or now + cap[1] * 1000000
          redis.call('HSET', K .. 'warned', cap[4], text(quiet))
          due[#due + 1] = place
          due[#due + 1] = quiet
          due[#due + 1] = window.spent
        end
      end
    end
  end
  return due
end
