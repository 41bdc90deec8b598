-- uses: clock ending
-- Make sure that a hold which may or may not have been opened is none: released if it is open, never to be opened if not.
-- ARGV: now or '', replica, ids.

local K = KEYS[1]
local now = time_now(K, ARGV[1])
local owner = ARGV[2]
for i = 3, #ARGV do
  local hold = load_hold(K, ARGV[i])
  if hold and hold.owner == owner then
    end_hold(K, hold, 0, now, false)
    remember_end(K, hold.id, 'released', owner, '')
  elseif not hold and not ended(K, ARGV[i]) then
    remember_end(K, ARGV[i], 'released', owner, '')
  end
end
save_accounts(K, now)
