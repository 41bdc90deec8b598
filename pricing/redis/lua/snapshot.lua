-- uses: clock last_row meter
-- What budgets and meters say at one stream id.
-- ARGV: how many scopes follow whose buckets `held` are to be summed, these, how many follow whose buckets `spent` are to
-- be told, these, then ids of holds that were seen.
-- Replies {last stream id, time, totals as {scope, nano-dollars, …},
--   holds as {{id, amount, deadline or '', pool, charge or '', scopes}, …},
--   held as {scope, nano-dollars, …}, meters as {{pool, charged, charged before, unrecorded, boot, idle, adjustment}, …},
--   in flight as {scope, count, …}, spent as {{bucket, nano-dollars, …}, …} as asked, id of the installation or ''};
--   numbers as text.

local K = KEYS[1]
local scopes, ids = {}, {}
for i = 2, ARGV[1] + 1 do
  scopes[ARGV[i]] = true
end
local spends = {}
for i = ARGV[1] + 3, ARGV[1] + 2 + ARGV[ARGV[1] + 2] do
  spends[#spends + 1] = redis.call('HGETALL', K .. 'spent:' .. ARGV[i])
end
for i = ARGV[1] + 3 + ARGV[ARGV[1] + 2], #ARGV do
  ids[ARGV[i]] = ''
end

local leases = redis.call('ZRANGE', K .. 'leases', 0, -1, 'WITHSCORES')
for i = 1, #leases, 2 do
  ids[leases[i]] = leases[i + 1]
end
local holds = {}
for id, deadline in pairs(ids) do
  local hold = redis.call('HMGET', K .. 'hold:' .. id, 'amount', 'charge', 'terms')
  if hold[1] then
    local pool, named = unpack(cmsgpack.unpack(hold[3]), 5)
    for _, scope in ipairs(named) do
      scopes[scope] = true
    end
    holds[#holds + 1] = { id, hold[1], deadline, pool, hold[2] or '', named }
  end
end

local held = {}
for scope in pairs(scopes) do
  local sum = 0
  for _, nusd in ipairs(redis.call('HVALS', K .. 'held:' .. scope)) do
    sum = sum + nusd
  end
  held[#held + 1] = scope
  held[#held + 1] = text(sum)
end

local meters = {}
for _, pool in ipairs(redis.call('SMEMBERS', K .. 'meters')) do
  local sums = redis.call('HMGET', K .. 'meter:' .. pool, 'total:charged', 'total:unrecorded', 'total:boot', 'total:idle',
    'total:adjustment')
  local m = load_meter(K, pool)
  meters[#meters + 1] = { pool, m and text(m.charged) or '0' }
  for i = 1, 5 do
    meters[#meters][i + 2] = sums[i] or '0'
  end
end

return { last_row_id(K), text((read_clock(redis.call('GET', K .. 'clock') or '0'))), redis.call('HGETALL', K .. 'totals'), holds, held, meters,
  redis.call('HGETALL', K .. 'inflight'), spends, redis.call('GET', K .. 'installation') or '' }
