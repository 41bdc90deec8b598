-- What waits for the ledger's database.
-- Replies {entries, bytes, milliseconds since the oldest was written or -1, entries that were set aside}.

local K = KEYS[1]
local oldest, age = redis.call('XRANGE', K .. 'rows', '-', '+', 'COUNT', 1), -1
if oldest[1] then
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  age = math.max(0, now - tonumber(string.match(oldest[1][1], '^%d+')))
end
local bytes = tonumber(redis.call('GET', K .. 'backlog') or 0)
return { redis.call('XLEN', K .. 'rows'), bytes, age, redis.call('XLEN', K .. 'poison') }
