-- Time in microseconds since the epoch, and how numbers become text.

-- Doubles hold integers exactly up to here; no sum may pass it.
local LARGEST = 9007199254740991

-- A number as decimal text. `tostring` and cjson lose digits from the 15th on; adding 0 makes -0, which is no integer
-- to Redis, 0.
local function text(number)
  return string.format('%.0f', number + 0)
end

-- The instant of this step: the server's clock, or `given` where the caller passes one ('' if not). It is never earlier
-- than what any script has seen, so that windows, leases and meters cannot run backwards.
local function time_now(K, given)
  local now = tonumber(given)
  if not now then
    local time = redis.call('TIME')
    now = time[1] * 1000000 + time[2]
  end
  local seen = tonumber(redis.call('GET', K .. 'clock') or 0)
  if now <= seen then
    return seen
  end
  redis.call('SET', K .. 'clock', text(now))
  return now
end
