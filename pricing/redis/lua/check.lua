-- uses: clock ledger
-- Write something that changes nothing: whether steps can be taken now.
-- ARGV: now or ''. Replies the bytes that wait in the ledger's stream, as text.

local now = time_now(KEYS[1], ARGV[1])
redis.call('SET', KEYS[1] .. 'clock', text(now))
return redis.call('GET', KEYS[1] .. 'backlog') or '0'
