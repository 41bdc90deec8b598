-- uses: clock
-- A replica's own clock: where the server's agrees with it, the server's is right, however far ahead of what was seen.
-- ARGV: now or '', the replica's wall time, by how much two clocks that agree may differ. Replies the time in force.

local K = KEYS[1]
if ARGV[1] == '' then
  local time = redis.call('TIME')
  local raw = time[1] * 1000000 + time[2]
  local seen = read_clock(redis.call('GET', K .. 'clock') or '0')
  if raw > seen and math.abs(raw - tonumber(ARGV[2])) <= tonumber(ARGV[3]) then
    write_clock(K, raw, raw)
  end
end
return time_now(K, ARGV[1])
