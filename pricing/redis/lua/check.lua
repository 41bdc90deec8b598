-- uses: clock
-- Write something that changes nothing, the time: whether steps can be taken now.
-- ARGV: now or ''. Replies the bytes that wait in the ledger's stream, as text.

time_now(KEYS[1], ARGV[1])
return redis.call('GET', KEYS[1] .. 'backlog') or '0'
