-- uses: clock shapes
-- What a replica saw of engines without memory. ARGV: now or '', then for each report 'out_of_memory' or 'engine_died',
-- pool, shape, microseconds since then, microseconds of the cooldown. Replies 1.

local now = time_now(KEYS[1], ARGV[1])
local take = { out_of_memory = out_of_memory, engine_died = engine_died }
for i = 2, #ARGV, 5 do
  take[ARGV[i]](KEYS[1], ARGV[i + 1], ARGV[i + 2], now - tonumber(ARGV[i + 3]), tonumber(ARGV[i + 4]))
end
return 1
