-- uses: clock
-- Rate limits: requests and tokens of the last minute, counted in slots of 5 seconds.
--
-- A slot counts as long as any of it lies within the last 60 seconds, so that no 60 seconds ever hold more than a limit.

local SLOT_US = 5000000
local MINUTE_US = 60000000
local counted = {} -- of this step, by scope

local function slot_of(at)
  return math.floor(at / SLOT_US)
end

-- What a scope has used: {requests = , tokens = } by slot, `first` is the oldest slot that counts.
local function usage(K, scope, now)
  local known = counted[scope]
  if known then
    return known
  end
  local key = K .. 'rates:' .. scope
  local made = { key = key, first = slot_of(now - MINUTE_US), requests = {}, tokens = {}, old = {} }
  local fields = redis.call('HGETALL', key)
  for i = 1, #fields, 2 do
    local slot = tonumber(string.sub(fields[i], 2))
    if slot < made.first then
      made.old[#made.old + 1] = fields[i]
    else
      local kind = string.sub(fields[i], 1, 1) == 'r' and made.requests or made.tokens
      kind[slot] = tonumber(fields[i + 1])
    end
  end
  counted[scope] = made
  return made
end

local function sum_slots(slots)
  local sum = 0
  for _, number in pairs(slots) do
    sum = sum + number
  end
  return sum
end

-- Microseconds until a slot counts no more.
local function leaves_in(slot, now)
  return (slot + 1) * SLOT_US + MINUTE_US - now
end

-- Microseconds until `more` fits a limit, -1 if it never will.
local function fits_in(slots, first, more, limit, now)
  local sum = sum_slots(slots)
  for slot = first, slot_of(now) do
    sum = sum - (slots[slot] or 0)
    if slots[slot] and sum + more <= limit then
      return leaves_in(slot, now)
    end
  end
  return -1
end

-- Microseconds until all that was used is back; every slot that counts anything has a request.
local function resets_in(used, now)
  local latest
  for slot in pairs(used.requests) do
    latest = math.max(latest or slot, slot)
  end
  return latest and leaves_in(latest, now) or 0
end

local function is_limited(scope)
  return scope[6] == 1
end

local function in_flight(K, scope)
  return tonumber(redis.call('HGET', K .. 'inflight', scope) or 0)
end

-- Which limit has no room for one more request of `tokens`:
-- {scope, dimension, limit, used, needed, microseconds until it fits or -1}.
local function first_limited(K, scopes, tokens, now)
  for _, scope in ipairs(scopes) do
    if is_limited(scope) then
      local used = usage(K, scope[1], now)
      local asked = {
        { 'requests', scope[3], sum_slots(used.requests), 1, used.requests },
        { 'tokens', scope[4], sum_slots(used.tokens), tokens, used.tokens },
        { 'in_flight', scope[5], in_flight(K, scope[1]), 1 },
      }
      for _, one in ipairs(asked) do
        local dimension, limit, sum, needed, slots = unpack(one)
        if limit >= 0 and sum + needed > limit then
          local wait = slots and fits_in(slots, used.first, needed, limit, now) or -1
          return { scope[1], dimension, limit, sum, needed, wait }
        end
      end
    end
  end
end

local function add_to_slot(used, kind, name, slot, more)
  if redis.call('HINCRBY', used.key, name .. text(slot), text(more)) == more then
    redis.call('EXPIRE', used.key, 600)
  end
  kind[slot] = (kind[slot] or 0) + more
end

-- Count a request in every limited scope.
local function count_request(K, scopes, tokens, now)
  for _, scope in ipairs(scopes) do
    if is_limited(scope) then
      local used = usage(K, scope[1], now)
      if #used.old > 0 then
        redis.call('HDEL', used.key, unpack(used.old))
        used.old = {}
      end
      add_to_slot(used, used.requests, 'r', slot_of(now), 1)
      if tokens > 0 then
        add_to_slot(used, used.tokens, 't', slot_of(now), tokens)
      end
    end
  end
end

-- Correct the tokens of a request that was counted at `at`. A slot that counts no more is left alone, and none gives
-- back more than it has.
local function correct_tokens(K, scopes, more, at, now)
  for _, scope in ipairs(scopes) do
    if more ~= 0 and is_limited(scope) then
      local used, slot = usage(K, scope[1], now), slot_of(at)
      if used.requests[slot] then
        add_to_slot(used, used.tokens, 't', slot, math.max(more, -(used.tokens[slot] or 0)))
      end
    end
  end
end

-- Add {limit, remaining, microseconds until all is back} of the tightest limit of each rate; limit -1 where none limits.
local function add_standing(reply, K, scopes, now)
  for place, kind in ipairs({ 'requests', 'tokens' }) do
    local limit, remaining, resets = -1, 0, 0
    for _, scope in ipairs(scopes) do
      local here = scope[place + 2]
      if here >= 0 then
        local used = usage(K, scope[1], now)
        local sum = sum_slots(used[kind])
        if limit < 0 or math.max(0, here - sum) < remaining then
          limit, remaining, resets = here, math.max(0, here - sum), sum > 0 and resets_in(used, now) or 0
        end
      end
    end
    reply[#reply + 1] = limit
    reply[#reply + 1] = remaining
    reply[#reply + 1] = resets
  end
  return reply
end
