-- uses: clock ledger
-- Write rows that are known in full, and the summary of a request.
-- ARGV: rows as a JSON array or '', request as JSON or ''.

append_rows(KEYS[1], ARGV[1], ARGV[2])
