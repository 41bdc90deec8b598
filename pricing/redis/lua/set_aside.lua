-- uses: clock
-- Move an entry that cannot be written into the ledger's database to the stream `poison`, with the reason.
-- ARGV: group, id, its bytes, why. Replies 1, or 0 where somebody else has moved or deleted it.

local K = KEYS[1]
local found = redis.call('XRANGE', K .. 'rows', ARGV[2], ARGV[2])
redis.call('XACK', K .. 'rows', ARGV[1], ARGV[2])
if not found[1] then
  return 0
end
redis.call('XADD', K .. 'poison', '*', 'from', ARGV[2], 'why', ARGV[4], unpack(found[1][2]))
redis.call('XDEL', K .. 'rows', ARGV[2])
redis.call('DECRBY', K .. 'backlog', ARGV[3])
return 1
