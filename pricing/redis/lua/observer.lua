-- uses: pools
-- One replica at a time is the observer: what it knows of containers and prices is what the meters are told. It holds a
-- lease, which its looks at the meters renew.
--
-- observer   hash: replica, until (instant), said (number of the last word that was taken in)

-- Where nobody has watched for longer than a lease, what was known of containers ended with the watching.
local function forget_containers(K, at)
  for _, pool in ipairs(redis.call('SMEMBERS', K .. 'meters')) do
    meter_containers(K, pool, at, 0, 0, 0)
  end
end

-- Renew the observer's lease, or take one that has run out: 'holds', 'new', or '' where another replica has it.
local function observe(K, replica, lease, now)
  local key = K .. 'observer'
  local holder = redis.call('HMGET', key, 'replica', 'until')
  local ends = tonumber(holder[2] or nil)
  if holder[1] == replica then
    redis.call('HSET', key, 'until', text(now + lease))
    return 'holds'
  end
  if ends and ends > now then
    return ''
  end
  if ends and now - ends > lease then
    forget_containers(K, ends)
  end
  redis.call('HSET', key, 'replica', replica, 'until', text(now + lease), 'said', '0')
  return 'new'
end

-- Whether a replica's word of that number is one that the meters have not heard yet, from the observer of now.
local function takes_word(K, replica, number)
  local key = K .. 'observer'
  local holder = redis.call('HMGET', key, 'replica', 'said')
  if holder[1] ~= replica or number <= tonumber(holder[2]) then
    return false
  end
  redis.call('HSET', key, 'said', text(number))
  return true
end
