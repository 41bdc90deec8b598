-- uses: clock observer
-- Words of a replica about pools, in order. ARGV: now or '', replica; then for each word its number, kind, pool,
-- microseconds since it became true, two figures, and what else there is to say ('' for nothing):
--   rate        nano-dollars per hour, requests per container, phases that are not billed: 'boot', 'idle' or both; a pool
--               that has none yet gets it from anybody
--   containers  ready, booting, as a platform's list has them
--   seen        ready, booting, as answers and files tell; from anybody, unless a list is known
--   missed      'boot' or 'ready', microseconds
--   listed      0, 0: a platform's list came, and all it shows was told
-- All else is the observer's to say, once each: a word that comes again is known by its number. Replies 1.

local K, replica = KEYS[1], ARGV[2]
local now = time_now(K, ARGV[1])

local function rate(pool, at, first, second, observes, free)
  if observes or redis.call('HEXISTS', K .. 'meter:' .. pool, 'state') == 0 then
    meter_rate(K, pool, at, tonumber(first), tonumber(second), free)
  end
end

local function containers(pool, at, first, second, observes)
  if observes then
    meter_containers(K, pool, at, tonumber(first), tonumber(second), 1)
  end
end

local function seen(pool, at, first, second)
  local m = load_meter(K, pool)
  if m and m.listed == 0 then
    meter_containers(K, pool, at, tonumber(first), tonumber(second), 0)
  end
end

local function missed(pool, _, first, second, observes)
  if observes then
    meter_missed(K, pool, first, tonumber(second))
  end
end

local function listed(pool, at, _, _, observes)
  if observes then
    meter_listed(K, pool, at)
  end
end

local take = { rate = rate, containers = containers, seen = seen, missed = missed, listed = listed }
for i = 3, #ARGV, 7 do
  local observes = takes_word(K, replica, tonumber(ARGV[i]))
  take[ARGV[i + 1]](ARGV[i + 2], now - tonumber(ARGV[i + 3]), ARGV[i + 4], ARGV[i + 5], observes, ARGV[i + 6])
end
return 1
