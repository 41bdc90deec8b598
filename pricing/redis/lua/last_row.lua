-- Where the stream of rows stands.

-- The id of the last entry that was ever added, gone or not; '0-0' before the first.
local function last_row_id(K)
  if redis.call('EXISTS', K .. 'rows') == 1 then
    local info = redis.call('XINFO', 'STREAM', K .. 'rows')
    for i = 1, #info, 2 do
      if info[i] == 'last-generated-id' then
        return info[i + 1]
      end
    end
  end
  return '0-0'
end
