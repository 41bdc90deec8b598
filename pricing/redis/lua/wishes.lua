-- What a replica asks, read from a script's arguments.

-- A hold to open, 13 arguments: caps, replica, id, amount, lease, anchor or '' for a request's first hold, tokens, row
-- on expiry, the meter's pool or '', weight, KV tokens, bytes that may wait in the ledger's stream, 1 if it was granted
-- without being asked for.
local function read_wish(args, i)
  return {
    caps = cmsgpack.unpack(args[i]),
    owner = args[i + 1],
    id = args[i + 2],
    amount = tonumber(args[i + 3]),
    lease = tonumber(args[i + 4]),
    anchor = args[i + 5],
    tokens = tonumber(args[i + 6]),
    row = args[i + 7],
    pool = args[i + 8],
    weight = tonumber(args[i + 9]),
    kv = tonumber(args[i + 10]),
    backlog = tonumber(args[i + 11]),
    granted = args[i + 12] == '1',
  }
end

-- A hold to end, 10 arguments: caps, replica, id, amount, 1 if that may exceed the hold, tokens more than were counted,
-- the call's token, rows or '', request or '', how it ends.
local function read_settlement(args, i)
  return {
    caps = cmsgpack.unpack(args[i]),
    owner = args[i + 1],
    id = args[i + 2],
    amount = tonumber(args[i + 3]),
    may_exceed = args[i + 4] == '1',
    more_tokens = tonumber(args[i + 5]),
    token = args[i + 6],
    rows = args[i + 7],
    request = args[i + 8],
    how = args[i + 9],
  }
end
