-- The ledger on its way to PostgreSQL: a stream, and how many bytes wait in it.

-- Add an entry; `...` are its fields and values. Its bytes are those of all of them.
local function append(K, ...)
  local bytes = 0
  for _, word in ipairs({...}) do
    bytes = bytes + #word
  end
  redis.call('XADD', K .. 'rows', '*', ...)
  redis.call('INCRBY', K .. 'backlog', bytes)
end

-- Add rows that are known in full and the summary of the request they end, as JSON; '' where there is none.
local function append_rows(K, rows, request)
  if request ~= '' then
    append(K, 'k', 'rows', 'rows', rows == '' and '[]' or rows, 'request', request)
  elseif rows ~= '' then
    append(K, 'k', 'rows', 'rows', rows)
  end
end
