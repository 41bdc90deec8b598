-- uses: clock ledger
-- Move entries that were set aside back into the ledger's stream, where they are tried again.
-- ARGV: ids in the stream `poison`. Replies how many were there.

local K = KEYS[1]
local moved = 0
for _, id in ipairs(ARGV) do
  local found = redis.call('XRANGE', K .. 'poison', id, id)
  if found[1] then
    append(K, unpack(found[1][2], 5)) -- behind `from` and `why`
    redis.call('XDEL', K .. 'poison', id)
    moved = moved + 1
  end
end
return moved
