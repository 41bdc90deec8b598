"""`sluice measure`: a fixed load against one endpoint, and what its answers say about the pool behind it."""
