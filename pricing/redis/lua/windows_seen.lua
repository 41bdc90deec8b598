-- uses: clock last_row windows
-- What caps' windows say that they have spent, and what their buckets come to; nothing is written.
-- ARGV: now, then for each cap its scope, the seconds of a rolling window or 0, and a month's first and end bucket.
-- Replies {last stream id, first bucket, spent, spent in buckets, … for each cap}; numbers as text.

local K = KEYS[1]
local now = tonumber(ARGV[1])
local reply = { last_row_id(K) }
for i = 2, #ARGV, 4 do
  local a, seconds = account(K, ARGV[i], now), tonumber(ARGV[i + 1])
  local name, first, last_bucket = seconds, bucket_of(now - seconds * 1000000), LARGEST
  if seconds == 0 then
    first, last_bucket = tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3])
    name = -first
  end
  local window = window_at(a, name, first, last_bucket)
  local spent = sum_all(spent_key(a), first, last_bucket)
  reply[#reply + 1] = text(window.first)
  reply[#reply + 1] = text(window.spent)
  reply[#reply + 1] = text(spent)
end
return reply
