-- uses: clock ledger windows pools
-- Write what boots and idle containers have cost since the last time, with what was learnt late: drained and written in
-- one step. It counts on the caps of the pool. ARGV: now or '', then for each pool its name and a row as JSON.

local KINDS = { boot = '__boot__', idle = '__idle__', adjustment = '__adjustment__' }
local K = KEYS[1]
local now = time_now(K, ARGV[1])

-- Nano-dollars on the caps of a pool; false, with nothing counted, where their sums would not be exact any more.
local function count_on_pool(pool, nusd)
  local both = { account(K, 'pool:' .. pool, now), account(K, 'endpoint:' .. pool, now) }
  for _, a in ipairs(both) do
    if not is_exact(a, nusd, now) then
      return false
    end
  end
  for _, a in ipairs(both) do
    change(a, amounts(bucket_of(now), nusd, 0))
  end
  return true
end

local function write(pool, row, number, kind, nusd, us, boots, evidence)
  if nusd == 0 and us == 0 and boots == 0 then
    return
  end
  local id = pool .. '@' .. text(now) .. ':' .. text(number) .. ':' .. kind
  append(K, 'k', 'filled', 'row', row, 'row_id', id, 'kind', kind, 'account', KINDS[kind], 'amount', text(nusd),
    'metered', text(nusd), 'at', text(now), 'duration', text(us), 'boots', text(boots), 'evidence', evidence)
  redis.call('HINCRBY', K .. 'meter:' .. pool, 'total:' .. kind, text(nusd))
  redis.call('HINCRBY', K .. 'meter:' .. pool, 'total:' .. kind .. '_us', text(us))
end

for i = 2, #ARGV, 2 do
  local pool, row = ARGV[i], ARGV[i + 1]
  local m = load_meter(K, pool)
  if m then
    advance(m, now)
    local boot, boot_us = drain_phase(m, 'boot')
    local idle, idle_us = drain_phase(m, 'idle')
    local late, late_us = drain_phase(m, 'adjustment')
    if boot + idle == 0 or count_on_pool(pool, boot + idle) then
      local number = redis.call('HINCRBY', m.key, 'drains', 1)
      local evidence = is_observed(m, m.drained_at) and 'observed' or 'modelled'
      write(pool, row, number, 'boot', boot, boot_us, m.began, evidence)
      write(pool, row, number, 'idle', idle, idle_us, 0, evidence)
      write(pool, row, number, 'adjustment', late, late_us, 0, evidence)
      m.drained_at, m.began = m.at, 0
      fold(m)
      save_meter(m)
    end
  end
end
save_accounts(K, now)
return 1
