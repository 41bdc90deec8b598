-- The right to restore budgets, one process's at a time: `restoring` is its token, until its lease ends.

-- Whether the lease is this process's still, which renews it. A server that was emptied meanwhile has no lease.
local function keep_lease(K, token, lease)
  if redis.call('GET', K .. 'restoring') ~= token then
    return false
  end
  redis.call('PEXPIRE', K .. 'restoring', lease)
  return true
end
