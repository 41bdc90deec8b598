"""Where a request can run: the catalogue, memory fit, service time, live state, failures and backends."""
