-- uses: clock
-- Entries are in the ledger's database: acknowledge and delete them.
-- ARGV: group, then for each entry: id, its bytes. Replies how many were there.

local K = KEYS[1]
local gone, bytes = 0, 0
for i = 2, #ARGV, 2 do
  redis.call('XACK', K .. 'rows', ARGV[1], ARGV[i])
  if redis.call('XDEL', K .. 'rows', ARGV[i]) == 1 then
    gone = gone + 1
    bytes = bytes + ARGV[i + 1]
  end
end
if redis.call('XLEN', K .. 'rows') == 0 then
  redis.call('SET', K .. 'backlog', '0')
else
  redis.call('DECRBY', K .. 'backlog', text(bytes))
end
return gone
