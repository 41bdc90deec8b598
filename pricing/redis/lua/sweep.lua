-- See to it that every entry of the ledger's stream is delivered: take over the oldest that were delivered but that no
-- consumer has (its consumer was deleted, or a failover lost who had it), and forget consumers that are long gone.
-- ARGV: group, consumer, milliseconds after which an idle consumer without entries is forgotten, entries at most.
-- Replies how many were taken over.

local rows = KEYS[1] .. 'rows'

local function by_name(flat)
  local fields = {}
  for i = 1, #flat, 2 do
    fields[flat[i]] = flat[i + 1]
  end
  return fields
end

for _, flat in ipairs(redis.call('XINFO', 'CONSUMERS', rows, ARGV[1])) do
  local one = by_name(flat)
  if one.pending == 0 and one.idle > tonumber(ARGV[3]) and one.name ~= ARGV[2] then
    redis.call('XGROUP', 'DELCONSUMER', rows, ARGV[1], one.name)
  end
end

local delivered = '0-0'
for _, flat in ipairs(redis.call('XINFO', 'GROUPS', rows)) do
  local group = by_name(flat)
  if group.name == ARGV[1] then
    delivered = group['last-delivered-id']
  end
end

local taken = 0
for _, entry in ipairs(redis.call('XRANGE', rows, '-', delivered, 'COUNT', ARGV[4])) do
  if not redis.call('XPENDING', rows, ARGV[1], entry[1], entry[1], 1)[1] then
    redis.call('XCLAIM', rows, ARGV[1], ARGV[2], 0, entry[1], 'FORCE', 'JUSTID')
    taken = taken + 1
  end
end
return taken
