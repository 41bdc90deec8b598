-- Let the ledger's stream go on behind an id that the database has already: an emptied Redis may have begun anew before it.
-- ARGV: that id, as two numbers. Replies 1.

local rows = KEYS[1] .. 'rows'
local id = redis.call('XADD', rows, '*', 'k', 'restart')
redis.call('XDEL', rows, id)
local ms, n = string.match(id, '^(%d+)-(%d+)$')
if tonumber(ms) < tonumber(ARGV[1]) or (ms == ARGV[1] and tonumber(n) < tonumber(ARGV[2])) then
  redis.call('XDEL', rows, redis.call('XADD', rows, string.format('%.0f-0', ARGV[1] + 1), 'k', 'restart'))
end
return 1
