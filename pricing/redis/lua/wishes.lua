-- What a replica asks, read from a script's arguments: caps, and a msgpack array of numbers and names. Rows are
-- arguments of their own, since nothing here reads them.

-- A hold to open, 3 arguments: caps; {replica, id, amount, lease, anchor or false for a request's first hold, tokens,
-- the meter's pool or '', weight, KV tokens, bytes that may wait in the ledger's stream, whether it was granted without
-- being asked for, id that Redis must have or ''}; row on expiry.
local function read_wish(args, i)
  local caps = cmsgpack.unpack(args[i])
  local owner, id, amount, lease, anchor, tokens, pool, weight, kv, backlog, granted, installation =
    unpack(cmsgpack.unpack(args[i + 1]))
  return {
    caps = caps, scopes = caps[3], owner = owner, id = id, amount = amount, lease = lease, anchor = anchor,
    tokens = tokens, pool = pool, weight = weight, kv = kv, backlog = backlog, granted = granted,
    installation = installation, row = args[i + 2],
  }
end

-- A hold to end, 4 arguments: caps; {replica, id, amount, whether that may exceed the hold, tokens more than were
-- counted, the call's token, how it ends}; rows or ''; request or ''.
local function read_settlement(args, i)
  local owner, id, amount, may_exceed, more_tokens, token, how = unpack(cmsgpack.unpack(args[i + 1]))
  return {
    caps = cmsgpack.unpack(args[i]), owner = owner, id = id, amount = amount, may_exceed = may_exceed,
    more_tokens = more_tokens, token = token, how = how, rows = args[i + 2], request = args[i + 3],
  }
end
