"""Choosing: which pool serves a request, from facts alone."""
