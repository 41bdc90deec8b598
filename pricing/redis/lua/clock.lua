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

-- The instant of this step: the server's clock, or `given` where the caller passes one ('' if not). It is never earlier
-- than what any script has seen, so that windows, leases and meters cannot run backwards.
local function time_now(K, given)
  local now = tonumber(given)
  if not now then
    local time = redis.call('TIME')
    now = time[1] * 1000000 + time[2]
  end
  local seen = tonumber(redis.call('SET', K .. 'clock', text(now), 'GET') or 0)
  if now < seen then
    redis.call('SET', K .. 'clock', text(seen))
    return seen
  end
  return now
end
