-- uses: clock
-- The shapes that are out. ARGV: now or '', pools. Replies for each pool {shape, microseconds left, …}.

local K = KEYS[1]
local now = time_now(K, ARGV[1])
local reply = {}
for i = 2, #ARGV do
  local key, found = K .. 'shapes:' .. ARGV[i], {}
  local fields = redis.call('HGETALL', key)
  for place = 1, #fields, 2 do
    local shape = string.match(fields[place], '^out:(%d+)$')
    local left = shape and fields[place + 1] - now
    if left and left > 0 then
      found[#found + 1], found[#found + 2] = tonumber(shape), left
    elseif left then
      redis.call('HDEL', key, fields[place])
    end
  end
  reply[#reply + 1] = found
end
return reply
