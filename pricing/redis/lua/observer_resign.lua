-- uses: clock
-- A replica that stops hands the observer's lease back. ARGV: now or '', replica.

local key = KEYS[1] .. 'observer'
if redis.call('HGET', key, 'replica') == ARGV[2] then
  redis.call('HSET', key, 'replica', '', 'until', text(time_now(KEYS[1], ARGV[1])))
end
return 1
