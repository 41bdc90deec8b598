-- uses: clock windows caps ledger
-- Write rows of the house, each once; those of boot and idle time count on the caps of their pool.
-- ARGV: now or '', caps of the scopes, then for each row: id, row as JSON, bucket, amount to count (0: none), pool.
-- Replies {'posted', now, {warnings …}, sums …}, {'month', now}, or {'too_large', scope} with nothing written.

local POSTED_S = 86400
local K = KEYS[1]
local now = time_now(K, ARGV[1])
local caps = cmsgpack.unpack(ARGV[2])
if not month_at(caps[1], now) then
  return { MONTH_UNKNOWN, now }
end
local fresh, rows, total = {}, {}, 0
for i = 3, #ARGV, 5 do
  if redis.call('EXISTS', K .. 'posted:' .. ARGV[i]) == 0 then
    fresh[#fresh + 1] = { id = ARGV[i], bucket = tonumber(ARGV[i + 2]), amount = tonumber(ARGV[i + 3]), pool = ARGV[i + 4] }
    rows[#rows + 1] = ARGV[i + 1]
    total = total + tonumber(ARGV[i + 3])
  end
end
local scope = too_large(K, caps[3], total, now)
if scope then
  save_accounts(K, now)
  return { 'too_large', scope }
end
for _, row in ipairs(fresh) do
  redis.call('SET', K .. 'posted:' .. row.id, '1', 'EX', POSTED_S)
  if row.amount ~= 0 then
    for _, kind in ipairs({ 'pool:', 'endpoint:' }) do
      local a = account(K, kind .. row.pool, now)
      keep(a, now)
      change(a, amounts(row.bucket, row.amount, 0))
    end
  end
end
if #rows > 0 then
  append_rows(K, '[' .. table.concat(rows, ',') .. ']', '')
end
local reply = add_sums({ 'posted', now, warnings(K, caps, now) }, K, caps, now)
save_accounts(K, now)
return reply
