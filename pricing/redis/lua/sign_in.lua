-- Somebody has signed in. Times are milliseconds.
-- ARGV: the session (a hash of its token), the key (its hash), for how long, how many sessions a key has at most: its
-- oldest end before there are more.
--
-- signed_in:<session>   the key that a session stands for, until it ends
-- sessions_of:<key>     list of its sessions, oldest first; those that have ended may still be in it

local K, session, key, lasts = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3])
local of_key = K .. 'sessions_of:' .. key
redis.call('SET', K .. 'signed_in:' .. session, key, 'PX', lasts)
redis.call('RPUSH', of_key, session)
redis.call('PEXPIRE', of_key, lasts)
while redis.call('LLEN', of_key) > tonumber(ARGV[4]) do
  redis.call('DEL', K .. 'signed_in:' .. redis.call('LPOP', of_key))
end
return 1
