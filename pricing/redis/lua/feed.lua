-- Tell the replicas where somebody watches what ended here, and hear what ended at others.
-- ARGV: replica, the id of the last entry that it has read or '', whether somebody watches at it (1 or 0), what ended
-- here lately or '', and how many entries it takes. Replies {1 if somebody watches anywhere, or 0; id of the newest
-- entry that it has now read; what others told since, oldest first}. Without an id nothing is old: it hears from now on.
--
-- watched   there for as long as somebody watches, and some seconds longer
-- feed      stream of what replicas told, the newest entries only: replica, ended

local WATCHED_MS, KEPT_S, ENTRIES = 5000, 60, 128
local K, me, last, watching, ended = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local watched, feed = K .. 'watched', K .. 'feed'
if watching == '1' then
  redis.call('SET', watched, me, 'PX', WATCHED_MS)
end
local anybody = redis.call('EXISTS', watched)
if anybody == 1 and ended ~= '' then
  redis.call('XADD', feed, 'MAXLEN', ENTRIES, '*', 'replica', me, 'ended', ended)
  redis.call('EXPIRE', feed, KEPT_S)
end
if watching ~= '1' then
  return { anybody, '', {} }
end
local newest = redis.call('XREVRANGE', feed, '+', '-', 'COUNT', 1)[1]
if last == '' or not newest then
  return { anybody, newest and newest[1] or '0-0', {} }
end
local told = {}
for _, entry in ipairs(redis.call('XRANGE', feed, '(' .. last, '+', 'COUNT', ARGV[5])) do
  last = entry[1]
  if entry[2][2] ~= me then
    told[#told + 1] = entry[2][4]
  end
end
return { anybody, last, told }
