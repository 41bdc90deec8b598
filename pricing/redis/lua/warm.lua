-- uses: clock
-- Take the lease on waking a pool, or renew it. ARGV: now or '', pool, replica, microseconds. Replies 1, or 0 where
-- another replica has it.
--
-- warm:<pool>   hash: replica, until

local KEPT_S = 3600
local K = KEYS[1]
local key, now = K .. 'warm:' .. ARGV[2], time_now(K, ARGV[1])
local holder, ends = unpack(redis.call('HMGET', key, 'replica', 'until'))
if ends and holder ~= ARGV[3] and tonumber(ends) > now then
  return 0
end
redis.call('HSET', key, 'replica', ARGV[3], 'until', text(now + tonumber(ARGV[4])))
redis.call('EXPIRE', key, KEPT_S)
return 1
