-- The version of the keys' layout, written by the first replica that comes.
-- ARGV: the version that this replica knows. Replies the version in force.

redis.call('SET', KEYS[1] .. 'layout', ARGV[1], 'NX')
return tonumber(redis.call('GET', KEYS[1] .. 'layout'))
