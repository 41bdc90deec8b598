-- uses: restoring
-- Renew the lease on restoring, say that Redis has what its ledger says, or give the lease back.
-- ARGV: token and milliseconds of the lease on restoring (0: give it back), id of the installation or ''.
-- Replies 1, or 0 where the lease is not this process's any more.

local K = KEYS[1]
if not keep_lease(K, ARGV[1], math.max(1, ARGV[2])) then
  return 0
end
if ARGV[3] ~= '' then
  redis.call('SET', K .. 'installation', ARGV[3])
end
if ARGV[2] == '0' then
  redis.call('DEL', K .. 'restoring')
end
return 1
