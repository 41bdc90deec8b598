-- Which shapes of a pool ran out of memory, as all replicas saw it: the rules of pools/live/breaker.py, whose test runs both.
--
-- shapes:<pool>   hash: died (the last engine's death), struck:<shape> (since when), out:<shape> (until when)

local STRIKE_LIFE_US = 1800 * 1000000
local SAME_DEATH_US = 5 * 1000000
local KEPT_S = 86400 -- an idle pool's key, at least

-- The engine said that it ran out of memory with this shape.
local function out_of_memory(K, pool, shape, at, cooldown)
  local key = K .. 'shapes:' .. pool
  redis.call('HSET', key, 'out:' .. shape, text(at + cooldown))
  redis.call('HDEL', key, 'struck:' .. shape)
  redis.call('EXPIRE', key, KEPT_S + math.ceil(cooldown / 1000000))
end

-- An engine died with this shape as the largest in flight: the second strike on it counts as out of memory. Reports of
-- one death come from every replica that had requests there.
local function engine_died(K, pool, shape, at, cooldown)
  local key = K .. 'shapes:' .. pool
  local died, struck = unpack(redis.call('HMGET', key, 'died', 'struck:' .. shape))
  if died and at - died < SAME_DEATH_US then
    return
  end
  redis.call('HSET', key, 'died', text(at))
  if struck and at - struck < STRIKE_LIFE_US then
    out_of_memory(K, pool, shape, at, cooldown)
  else
    redis.call('HSET', key, 'struck:' .. shape, text(at))
    redis.call('EXPIRE', key, KEPT_S + math.ceil(cooldown / 1000000))
  end
end
