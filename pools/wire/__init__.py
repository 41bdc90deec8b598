"""The bytes between the router and an engine."""
