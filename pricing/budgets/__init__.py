"""Caps, windows and holds: who may spend how much, and what is set aside while a request runs."""
