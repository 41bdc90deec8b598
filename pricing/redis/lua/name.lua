-- Lease a replica's name to one process, or renew it; no milliseconds give it back.
-- ARGV: name, the process's token, milliseconds. Replies 0, or for how many milliseconds another process has it.
--
-- name:<replica>   the token of the process that has it, until its lease ends

local key, token, lease = KEYS[1] .. 'name:' .. ARGV[1], ARGV[2], tonumber(ARGV[3])
local holder = redis.call('GET', key)
if holder and holder ~= token then
  return math.max(1, redis.call('PTTL', key))
end
if lease > 0 then
  redis.call('SET', key, token, 'PX', lease)
else
  redis.call('DEL', key)
end
return 0
