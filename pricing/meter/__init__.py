"""Whose the busy seconds of containers are."""
