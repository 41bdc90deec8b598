"""What a policy has deployed: pools, and the router itself."""
