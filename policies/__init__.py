"""Which pool serves a request, and why."""
