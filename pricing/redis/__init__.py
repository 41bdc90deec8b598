"""What several replicas share, kept in Redis: the client, the scripts, and what is built of them."""
