-- Time in microseconds since the epoch, and how numbers become text.

-- Doubles hold integers exactly up to here; no sum may pass it.
local LARGEST = 9007199254740991

-- An integer as decimal text. `tostring` and cjson lose digits from the 15th on; adding 0 makes -0, which is no integer
-- to Redis, 0. What fits a C long on every machine is printed as one, which takes a third of the time.
local function text(number)
  if number > -2147483648 and number < 2147483648 then
    return string.format('%d', number + 0)
  end
  return string.format('%.0f', number)
end

-- While the clock is not where it was left, a step back or forth of it is told from time that passes by its size: replicas
-- take a step every second.
local PASSES_US = 10000000
-- How far ahead the clock may go at once, unless a replica's own clock agrees with it (`agree.lua`).
local PLAUSIBLE_US = 3600000000

-- `clock` is the latest time that any script saw, and after a space what the clock showed then, if that is not the same.
local function read_clock(words)
  local seen, raw = string.match(words, '^(%d+) ?(%d*)$')
  return tonumber(seen), tonumber(raw) or tonumber(seen)
end

local function write_clock(K, now, raw)
  redis.call('SET', K .. 'clock', now == raw and text(now) or text(now) .. ' ' .. text(raw))
end

-- The instant of this step: the server's clock, or `given` where the caller passes one ('' if not). It never runs
-- backwards, so that windows, leases and meters do not, and never stops: behind what was seen, or implausibly far ahead of
-- it, the clock says only how much time passes.
local function time_now(K, given)
  local raw, furthest = tonumber(given), LARGEST
  if not raw then
    local time = redis.call('TIME')
    raw, furthest = time[1] * 1000000 + time[2], PLAUSIBLE_US
  end
  local words = redis.call('SET', K .. 'clock', text(raw), 'GET')
  if not words then
    return raw
  end
  local seen, last = read_clock(words)
  if raw >= seen and raw - seen <= furthest then
    return raw
  end
  local now = seen + math.min(math.max(0, raw - last), PASSES_US)
  if raw < seen then
    now = math.max(now, raw)
  end
  write_clock(K, now, raw)
  return now
end
